"""A camera that sends JPEG images by HTTP (multipart/x-mixed-replace), as network cameras do.

mjpeg_camera.py PORT FPS
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from plr_edge.stream import open_stream


def main() -> None:
    port, fps = int(sys.argv[1]), float(sys.argv[2])
    pictures = [jpeg(frame.image) for frame in open_stream("demo", limit_per_class=12)]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            with suppress(OSError):  # the client has gone
                start = time.monotonic()
                for i in range(1 << 40):
                    data = pictures[i % len(pictures)]
                    head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + data + b"\r\n")
                    time.sleep(max(0.0, start + (i + 1) / fps - time.monotonic()))

    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def jpeg(image) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).resize((320, 240)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


if __name__ == "__main__":
    main()
