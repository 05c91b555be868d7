"""A small client of `bowline.v1`, written from the .proto files and their comments with stock gRPC.

It knows as much of the protocol as the tests need: it holds each session's cursor, checks the chain, and answers probes.
"""

import queue
import random
import threading

import grpc

from bowline.v1 import stream_pb2, stream_pb2_grpc

WAIT = 10.0


class Ended(Exception):
    """The stream is over; `status` is its grpc.StatusCode, `call` the call with its details."""

    def __init__(self, call):
        super().__init__(f"{call.code()}: {call.details()}")
        self.status = call.code()
        self.call = call


class Connection:
    """One StreamData call. Frames of each kind are taken with `next`, in the order they came."""

    def __init__(self, channel, client_id, hello=True):
        self.requests = queue.Queue()
        self.frames = queue.Queue()
        self.probes_answered = 0
        self.cursors = {}
        stub = stream_pb2_grpc.StreamServiceStub(channel)
        self.call = stub.StreamData(iter(self.requests.get, None), metadata=[("x-client-id", client_id)])
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if hello:
            self.send(hello=stream_pb2.Hello(version_min=1, version_max=1, agent="interop-python"))
            self.welcome = self.next("welcome")

    def send(self, request_id=0, **frame):
        self.requests.put(stream_pb2.StreamDataRequest(request_id=request_id, **frame))

    def half_close(self):
        self.requests.put(None)

    def vanish(self):
        """Ends the call from this side without a word."""
        self.call.cancel()
        self.half_close()
        self.reader.join(WAIT)

    def _read(self):
        try:
            for response in self.call:
                heartbeat = response.heartbeat if response.WhichOneof("frame") == "heartbeat" else None
                if heartbeat is not None and heartbeat.reply_requested:
                    self.send(heartbeat=stream_pb2.Heartbeat(nonce=heartbeat.nonce))
                    self.probes_answered += 1
                self.frames.put(response)
        except grpc.RpcError:
            pass
        self.frames.put(None)

    def next(self, kind):
        """The next frame, which must be of this kind; heartbeats are passed over unless asked for."""
        while True:
            frame = self.frames.get(timeout=WAIT)
            if frame is None:
                self.frames.put(None)
                raise Ended(self.call)
            got = frame.WhichOneof("frame")
            if got == kind:
                return getattr(frame, kind)
            if got != "heartbeat":
                raise AssertionError(f"expected {kind}, got {frame}")

    def frames_of(self, kinds, count):
        """`count` frames of these kinds, which may come in any order among each other."""
        taken = []
        while len(taken) < count:
            frame = self.frames.get(timeout=WAIT)
            if frame is None:
                raise Ended(self.call)
            if frame.WhichOneof("frame") in kinds:
                taken.append(frame)
            elif frame.WhichOneof("frame") != "heartbeat":
                raise AssertionError(f"expected one of {kinds}, got {frame}")
        return taken

    def end(self):
        """Waits for the end of the stream; returns its status."""
        while self.frames.get(timeout=WAIT) is not None:
            pass
        return self.call.code()

    def open(self, session, session_id, topic, **options):
        self.send(open_session=stream_pb2.OpenSession(session=session, session_id=session_id, topic=topic, **options))
        opened = self.next("session_opened")
        self.cursors[session] = opened.start
        return opened

    def advance(self, delivery):
        """Checks the chain and moves the cursor; returns the events. A snapshot is of the cursor, and does not move it."""
        cursor = self.cursors[delivery.session]
        assert delivery.prev == cursor.offset, f"chain broken: prev {delivery.prev}, cursor {cursor.offset}"
        if delivery.snapshot:
            assert all(event.offset <= delivery.prev for event in delivery.events), delivery
            return list(delivery.events)
        last = delivery.prev
        for event in delivery.events:
            assert event.offset > last, f"offset {event.offset} after {last}"
            last = event.offset
        assert last - delivery.prev == len(delivery.events) + delivery.skipped, f"not all accounted for: {delivery}"
        cursor.offset, cursor.time_us = last, delivery.events[-1].time_us
        return list(delivery.events)

    def snapshot(self, session):
        """The snapshot that is due, to its end: payloads by key."""
        state = {}
        while True:
            delivery = self.next("delivery")
            assert delivery.session == session and delivery.snapshot, delivery
            events = self.advance(delivery)
            if not events:
                return state
            state.update((event.key, event.payload) for event in events)

    def ask(self, request_id, **frame):
        """Sends a frame and waits for its Reply; the events that came before it, and the Reply."""
        self.send(request_id=request_id, **frame)
        events = []
        while True:
            (frame,) = self.frames_of(("reply", "delivery"), 1)
            if frame.WhichOneof("frame") == "reply":
                assert frame.reply.request_id == request_id, frame
                return events, frame.reply
            events += self.advance(frame.delivery)

    def is_quiet(self):
        """True if the server has nothing more to say: a heartbeat that is asked for comes back before anything else."""
        nonce = random.getrandbits(63) + 1
        self.send(heartbeat=stream_pb2.Heartbeat(nonce=nonce, reply_requested=True))
        while True:
            frame = self.frames.get(timeout=WAIT)
            if frame.WhichOneof("frame") != "heartbeat":
                return False
            if frame.heartbeat.nonce == nonce:
                return True

    def receive(self, count):
        """`count` events, whatever the runs they come in."""
        events = []
        while len(events) < count:
            events += self.advance(self.next("delivery"))
        return events
