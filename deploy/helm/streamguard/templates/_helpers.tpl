{{- define "streamguard.selector" -}}
app.kubernetes.io/name: streamguard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: streamguard
{{- end }}
{{- define "streamguard.config" -}}
{{- $config := .Values.config }}
{{- if .Values.gpu.product }}
{{- $config = merge (deepCopy $config) (dict "detector" (dict "backend" "auto") "classifier" (dict "backend" "auto")) }}
{{- end }}
{{- toYaml $config }}
{{- end }}
{{- define "streamguard.image" -}}
{{- $tag := .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-cuda" "" (ne .Values.gpu.product ""))) }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
