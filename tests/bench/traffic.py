"""Clients that stream completions, each one request after another (a closed loop), for a daemon of ours or a peer's server.

One thread reads all streams, and looks for nothing but the beginnings of events, so that it takes little from what it
measures. Standard library only.
"""
import json
import selectors
import socket
import time

EVENT = b"data: {"


class Request:
    """When it was sent, and when each of its tokens came."""

    def __init__(self, sent):
        self.sent, self.times, self.ended = sent, [], False


class Stream:
    """A connection with one request under way."""

    def __init__(self, port, path, body, tokens):
        data = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(data)}\r\n\r\n")
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request, self.tokens, self.tail, self.head = Request(time.monotonic()), tokens, b"", b""
        self.socket.sendall(head.encode() + data)

    def read(self):
        """Notes what came; False when the stream is over."""
        data = self.socket.recv(65536)
        now = time.monotonic()
        if len(self.head) < 12:
            self.head += data[:12]
            if len(self.head) >= 12 and self.head[9:12] != b"200":
                raise RuntimeError(f"refused: {data[:500]!r}")
        text = self.tail + data
        came = min(text.count(EVENT), self.tokens - len(self.request.times))
        self.request.times += [now] * came
        self.tail = text[-len(EVENT) + 1:]
        self.request.ended = not data
        return bool(data)


def run(port, streams, tokens, request_of, until):
    """The requests that ended, in the order of their ends, and those that were cut off at the end.

    request_of(stream, number) gives (path, body), the number being that of all requests so far, or None when the stream is
    done; until(requests) is asked whenever one has ended, and ends it all, as does the end of the last stream.
    """
    ended, sent, poll, open_streams = [], 0, selectors.DefaultSelector(), {}

    def begin(i):
        nonlocal sent
        request = request_of(i, sent)
        if request:
            open_streams[i] = Stream(port, *request, tokens)
            poll.register(open_streams[i].socket, selectors.EVENT_READ, i)
            sent += 1

    def close(i):
        stream = open_streams.pop(i)
        poll.unregister(stream.socket)
        stream.socket.close()
        return stream.request

    try:
        for i in range(streams):
            begin(i)
        while open_streams:
            for key, _ in poll.select():
                if not open_streams[key.data].read():
                    ended.append(close(key.data))
                    if until(ended):
                        return ended, [s.request for s in open_streams.values()]
                    begin(key.data)
        return ended, []
    finally:
        for i in list(open_streams):
            close(i)
        poll.close()


class Window:
    """The time that counts, as an `until`: from when as many requests have ended as there are streams, for some seconds.

    mark is called at its beginning and at its end.
    """

    def __init__(self, streams, seconds, mark=None):
        self.streams, self.seconds, self.mark, self.start, self.end = streams, seconds, mark, None, None

    def __call__(self, ended):
        if self.start is None and len(ended) >= self.streams:
            self.start = time.monotonic()
            if self.mark:
                self.mark()
        if self.start is None or time.monotonic() < self.start + self.seconds:
            return False
        self.end = time.monotonic()
        if self.mark:
            self.mark()
        return True


def rate(requests, start, end):
    """Tokens a second that came within [start, end]."""
    return sum(start <= t <= end for r in requests for t in r.times) / (end - start)


def waits(requests, start, end):
    """Between two tokens of a request, both within [start, end]."""
    return [b - a for r in requests for a, b in zip(r.times, r.times[1:]) if start <= a and b <= end]


def first_waits(requests, start, end):
    """For the first token, of requests that were sent and answered within [start, end]."""
    return [r.times[0] - r.sent for r in requests if r.times and start <= r.sent and r.times[0] <= end]


def percentile(values, p):
    """The nearest rank; 0 of none."""
    v = sorted(values)
    return v[max(0, -int(-p * len(v) // 1) - 1)] if v else 0.0
