"""An RTSP server for the tests: gst-rtsp-server, run by the system's own Python (its bindings are Debian's).

It sends encoded pictures from a file (4 bytes of length, big-endian, then one access unit in Annex B) over and
over in real time, to all clients the same; or, with --raw, encodes I420 pictures with the time of day written
into them, for measurements from pixel to score. RTCP sender reports carry the wall clock, as cameras' do.

Says "ready" when it listens. tests/rtsp_server.py is what starts it.
"""

import argparse
import itertools
import struct
import sys
import threading
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402, F401

STARTED = time.monotonic()
RATE, SILENCE = 8000, 0xD5  # of G.711 A-law
BLOCK, BITS = 8, 24  # of the stamp, as in tests/media.py


def units_of(path):
    data = Path(path).read_bytes()
    units, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        units.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return units


def stamped(picture, width, number):
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = b"".join(bytes([235 if bit else 16]) * BLOCK for bit in [*bits, sum(bits) % 2])
    for y in range(BLOCK):
        picture[y * width : y * width + len(row)] = row
    return bytes(picture)


def clip_frames(path, fps):
    """The clip runs on while nobody watches, as the world before a camera does."""
    units = units_of(path)
    index = round((time.monotonic() - STARTED) * fps)
    while True:
        yield units[index % len(units)]
        index += 1


def clock_frames(path, width, height):
    data = Path(path).read_bytes()
    size = width * height * 3 // 2
    pictures = [bytearray(data[i : i + size]) for i in range(0, len(data), size)]
    index = 0
    while True:
        yield stamped(pictures[index % len(pictures)], width, int(time.time() * 1000) % (1 << BITS))
        index += 1


def feed(source, frames, fps):
    """Push a picture when it is due, until the media is torn down."""
    due = time.monotonic()
    for data in frames:
        due += 1 / fps
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due, time.monotonic() - 1.0)  # after SIGSTOP: no burst of what was due meanwhile
        if source.emit("push-buffer", Gst.Buffer.new_wrapped(data)) != Gst.FlowReturn.OK:
            return


def launch(options):
    drop = f"! identity name=pay0 drop-probability={options.loss}" if options.loss else ""
    payer = f"rtph264pay pt=96 config-interval=-1 {'' if drop else 'name=pay0'}"
    if options.raw:
        caps = f"video/x-raw,format=I420,width={options.width},height={options.height},framerate={options.fps}/1"
        encoder = (
            f"x264enc tune=zerolatency speed-preset=ultrafast bitrate=3000 key-int-max={options.fps}"
            " threads=1 sliced-threads=false ! video/x-h264,profile=baseline"
        )
    else:
        caps = f"video/x-h264,stream-format=byte-stream,alignment=au,framerate={options.fps}/1"
        encoder = "h264parse"
    source = "is-live=true do-timestamp=true format=time"
    picture = f"appsrc name=src {source} caps={caps} ! {encoder} ! {payer} {drop}"
    sound = f"appsrc name=sound {source} caps=audio/x-alaw,rate={RATE},channels=1 ! rtppcmapay name=pay1 pt=8"
    return f"( {picture} {sound if options.audio else ''} )"


def launch_recorder(options):
    """What a client sends (RECORD), into a Matroska file as it comes."""
    sound = "rtppcmadepay name=depay1 ! queue ! muxer." if options.audio else ""
    muxer = f"matroskamux name=muxer streamable=true ! filesink location={options.record} buffer-mode=unbuffered"
    return f"( rtph264depay name=depay0 ! h264parse ! queue ! muxer. {sound} {muxer} )"


def authentication(user, password):
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth.add_digest(user, password, token)
    return auth


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clip")
    parser.add_argument("--raw")
    parser.add_argument("--record")
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--audio", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--loss", type=float, default=0.0)
    options = parser.parse_args()
    Gst.init(None)

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    factory = GstRtspServer.RTSPMediaFactory()
    if options.record:
        factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
    factory.set_launch(launch_recorder(options) if options.record else launch(options))
    factory.set_shared(not options.record)
    factory.set_latency(0)
    if options.user:
        server.set_auth(authentication(options.user, options.password))
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)

    def configure(_factory, media):
        source = media.get_element().get_by_name("src")
        clock = options.raw and clock_frames(options.raw, options.width, options.height)
        frames = clock or clip_frames(options.clip, options.fps)
        threading.Thread(target=feed, args=(source, frames, options.fps), daemon=True).start()
        if options.audio:
            sound = media.get_element().get_by_name("sound")
            silence = itertools.repeat(bytes([SILENCE]) * (RATE // 50))
            threading.Thread(target=feed, args=(sound, silence, 50), daemon=True).start()

    if not options.record:
        factory.connect("media-configure", configure)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        raise SystemExit(f"port {options.port} is taken")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
