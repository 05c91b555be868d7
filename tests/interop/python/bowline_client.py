"""A small client of `bowline.v1`, written from the .proto files and their comments with stock gRPC.

It knows as much of the protocol as the tests need: it holds each session's cursor, checks the chain, knows when a
snapshot is due, and answers probes.
"""

import queue
import threading

import grpc

from bowline.v1 import stream_pb2, stream_pb2_grpc, topic_pb2

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
        self.keyed = set()
        self.in_snapshot = set()
        self.requests_made = 0
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

    def ask(self, **frame):
        """Sends a frame that wants a Reply, and returns it; deliveries that come before it are taken."""
        self.requests_made += 1
        self.send(request_id=1_000_000 + self.requests_made, **frame)
        while True:
            (frame,) = self.frames_of(("reply", "delivery"), 1)
            if frame.WhichOneof("frame") == "reply":
                assert frame.reply.request_id == 1_000_000 + self.requests_made, frame
                return frame.reply
            self.advance(frame.delivery)

    def settled(self):
        """What the server has to say now: all that comes before the answers to two heartbeats. Two, because answers go
        before deliveries; what was due when the first was given comes before the second."""
        frames = []
        for nonce in (1, 2):
            self.send(heartbeat=stream_pb2.Heartbeat(nonce=nonce, reply_requested=True))
            while True:
                frame = self.frames.get(timeout=WAIT)
                if frame is None:
                    raise Ended(self.call)
                if frame.WhichOneof("frame") != "heartbeat":
                    frames.append(frame)
                elif frame.heartbeat.nonce == nonce and not frame.heartbeat.reply_requested:
                    break
        return frames

    def open(self, session, session_id, topic, **options):
        request = stream_pb2.OpenSession(session=session, session_id=session_id, topic=topic, **options)
        self.send(open_session=request)
        opened = self.next("session_opened")
        self.cursors[session] = opened.start
        self.keyed.discard(session)
        self.in_snapshot.discard(session)
        if opened.topic_class == topic_pb2.TOPIC_CLASS_STATE:
            self.keyed.add(session)
            if request.start.HasField("snapshot"):
                self.in_snapshot.add(session)
        return opened

    def close(self, session, **options):
        self.send(close_session=stream_pb2.CloseSession(session=session, **options))
        closed = self.next("session_closed")
        assert closed.session == session, closed
        return closed

    def flow(self, session, **fields):
        self.send(flow=stream_pb2.Flow(session=session, **fields))

    def publish(self, session, seq, payload, **fields):
        event = topic_pb2.NewEvent(payload=payload, **fields)
        return self.ask(publish=stream_pb2.Publish(session=session, seq=seq, event=event))

    def advance(self, delivery):
        """Checks the chain and moves the cursor; returns the events."""
        cursor = self.cursors[delivery.session]
        assert delivery.prev == cursor.offset, f"chain broken: prev {delivery.prev}, cursor {cursor.offset}"
        assert delivery.snapshot == (delivery.session in self.in_snapshot), f"out of place: {delivery}"
        if delivery.snapshot:
            assert all(event.offset <= delivery.prev for event in delivery.events), f"above the snapshot: {delivery}"
            if not delivery.events:
                self.in_snapshot.discard(delivery.session)
            return list(delivery.events)
        last = delivery.prev
        for event in delivery.events:
            assert event.offset > last, f"offset {event.offset} after {last}"
            last = event.offset
        covered = len(delivery.events) + delivery.skipped
        assert last - delivery.prev == covered, f"not all accounted for: {delivery}"
        cursor.offset, cursor.time_us = last, delivery.events[-1].time_us
        return list(delivery.events)

    def skip(self, gap):
        """Checks a Gap and moves the cursor; in a keyed topic a snapshot follows."""
        cursor = self.cursors[gap.session]
        assert (getattr(gap, "from").epoch, getattr(gap, "from").offset) == (cursor.epoch, cursor.offset), gap
        cursor.CopyFrom(gap.to)
        if gap.session in self.keyed:
            self.in_snapshot.add(gap.session)

    def receive(self, count):
        """`count` events, whatever the runs they come in."""
        events = []
        while len(events) < count:
            events += self.advance(self.next("delivery"))
        assert len(events) == count, f"more than {count} events came"
        return events

    def snapshot(self, session):
        """The events of a snapshot that is due, up to its end."""
        events = []
        while session in self.in_snapshot:
            events += self.advance(self.next("delivery"))
        return events
