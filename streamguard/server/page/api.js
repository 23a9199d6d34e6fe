/** The API: one place that asks, with a time limit, and says by name what was refused. */

const ROOT = "/api/v1";
const PATIENCE = 8000; // milliseconds

/** The server answered, and refused. `status` is HTTP's, `message` its own words. */
export class Refused extends Error {
  constructor(status, told) {
    super(told?.detail ?? `refused with ${status}`);
    this.status = status;
    this.name = told?.type?.replace("urn:streamguard:problem:", "") ?? "refused";
  }
}

/** Ask for JSON. Throws Refused, or whatever says that there was no answer. */
export async function ask(method, path, { body, token } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(ROOT + path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    credentials: "same-origin",
    redirect: "error",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 204) return null;
  const json = answer.headers.get("Content-Type")?.includes("json");
  const told = json ? await answer.json() : null;
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

export const streamPath = (name) => `/streams/${encodeURIComponent(name)}`;

export const evidencePath = (segment) => `/segments/${encodeURIComponent(segment)}/evidence`;

/** Where a file of a segment's evidence is fetched. */
export const evidenceFile = (segment, name) => `${ROOT}${evidencePath(segment)}/${encodeURIComponent(name)}`;
