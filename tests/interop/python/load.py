"""Publishes and reads what it publishes as fast as it can, with a channel as anybody makes it; prints how much that was.

Not one of the tests: tests/interop/pings.rs runs it against a server of its own, and looks at the wire meanwhile.
"""

import os
import time
import uuid

import grpc

from bowline.v1 import stream_pb2, stream_pb2_grpc, topic_pb2

SECONDS = 4


def main():
    topic = f"interop.python.{uuid.uuid4().hex[:8]}"
    begun = time.monotonic()
    sent = 0
    over = False

    def requests():
        nonlocal sent, over
        yield stream_pb2.StreamDataRequest(hello=stream_pb2.Hello(version_min=1, version_max=1, client_id="load"))
        session = stream_pb2.OpenSession(session=1, session_id="load", topic=topic)
        yield stream_pb2.StreamDataRequest(open_session=session)
        event = topic_pb2.NewEvent(payload=b"what everybody wants to know, and in so many words")
        while time.monotonic() - begun < SECONDS:
            sent += 1
            publish = stream_pb2.Publish(session=1, seq=sent, event=event)
            yield stream_pb2.StreamDataRequest(request_id=sent, publish=publish)
        over = True
        # The end of the requests: what is stored is still answered and delivered.

    received = replies = events = 0
    with grpc.insecure_channel(os.environ["BOWLINE_ADDRESS"]) as channel:
        call = stream_pb2_grpc.StreamServiceStub(channel).StreamData(requests(), timeout=60)
        for response in call:
            received += 1
            kind = response.WhichOneof("frame")
            if kind == "reply":
                assert not response.reply.HasField("failure"), response
                replies += 1
            elif kind == "delivery":
                events += len(response.delivery.events)
    assert over and replies == sent and events == sent, (sent, replies, events)
    print(f"load: {sent} {received} {events} {(time.monotonic() - begun) * 1000:.0f}", flush=True)


main()
