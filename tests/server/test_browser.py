"""A real browser sends its camera and watches the answer: what only Chromium does, it does here."""

import http.server
import threading

import pytest

from streamguard.ingest.demo import DemoSource
from streamguard.pixels import rgb_of
from tests.servers.browser import chromium, write_camera
from tests.serving import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

SEND = """async ([base, stream, token, codec]) => {
  const camera = await navigator.mediaDevices.getUserMedia({video: {width: 960, height: 540}});
  const peer = new RTCPeerConnection();
  const sender = peer.addTransceiver(camera.getVideoTracks()[0], {direction: "sendonly"});
  const known = RTCRtpSender.getCapabilities("video").codecs;
  sender.setCodecPreferences(known.filter(c => [codec, "video/rtx"].includes(c.mimeType)));
  const channel = peer.createDataChannel("streamguard");
  window.told = [];
  channel.onmessage = message => window.told.push(JSON.parse(message.data).type);
  await peer.setLocalDescription();
  await new Promise(done => peer.onicecandidate = found => found.candidate || done());
  const headers = {"Content-Type": "application/sdp", Authorization: `Bearer ${token}`};
  const answer = await fetch(`${base}/whip/${stream}`, {method: "POST", headers, body: peer.localDescription.sdp});
  if (answer.status != 201) return `${answer.status} ${await answer.text()}`;
  await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
  window.session = base + answer.headers.get("Location");
  return "";
}"""

WATCH = """async ([base, stream, token]) => {
  const peer = new RTCPeerConnection();
  peer.addTransceiver("video", {direction: "recvonly"});
  const video = document.createElement("video");
  video.muted = video.autoplay = true;
  document.body.append(video);
  peer.ontrack = event => { video.srcObject = new MediaStream([event.track]); video.play(); };
  await peer.setLocalDescription();
  await new Promise(done => peer.onicecandidate = found => found.candidate || done());
  const headers = {"Content-Type": "application/sdp", Authorization: `Bearer ${token}`};
  const answer = await fetch(`${base}/whep/${stream}`, {method: "POST", headers, body: peer.localDescription.sdp});
  if (answer.status != 201) return `${answer.status} ${await answer.text()}`;
  await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
  window.video = video;
  return "";
}"""

END = """([token]) => fetch(window.session, {method: "DELETE", headers: {Authorization: `Bearer ${token}`}})
  .then(answer => answer.status)"""


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """Two seconds of the made camera, 960x540."""
    with DemoSource("demo:?seed=5&duration=2&pace=0").open(1) as connection:
        frames = [rgb_of(frame.picture) for frame in connection]
    return write_camera(tmp_path_factory.mktemp("camera") / "camera.y4m", frames, fps=25)


class Page(http.server.BaseHTTPRequestHandler):
    """A page of somebody else's: an empty one."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A call</title>")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def origin():
    """Where that page is: another origin than the server's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("codec", ["video/H264"])
def test_a_browser_sends_its_camera_whole_and_sees_the_answer(call, house, stream, camera, origin, codec):
    """The first picture has the camera's full size: a browser left to itself starts with a quarter of it."""
    widths = []
    with call(cors_origins=(origin,)) as served, chromium(camera=camera) as browser:
        page = browser.new_page()
        page.goto(origin)
        base = served.server.url
        assert page.evaluate(SEND, [base, stream, served.sender, codec]) == ""

        def width():
            widths.append(house.sample("stream_width_pixels", stream=stream))
            return widths[-1]

        until(width)
        assert widths[-1] == 960.0
        assert page.evaluate(WATCH, [base, stream, served.viewer]) == ""
        page.wait_for_function("window.video.videoWidth > 0 && window.video.currentTime > 0.5", timeout=120_000)
        page.wait_for_function("window.told.includes('streamguard.track.state.v1')", timeout=120_000)
        assert page.evaluate(END, [served.sender]) == 200
        assert stream not in house.watched()
