"""What every test stands on: a channel, a client id and topics of its own.

Run with BOWLINE_ADDRESS=host:port and the generated code on PYTHONPATH; tests/interop.rs does both.
"""

import os
import unittest
import uuid

import grpc

from bowline.v1 import topic_pb2, topic_pb2_grpc
from bowline_client import WAIT, Connection


def new_event(payload, **fields):
    return topic_pb2.NewEvent(payload=payload, **fields)


def changes(events):
    """What events do to keys, as text: key=payload, or -key."""
    removed = topic_pb2.OPERATION_DELETE
    return [
        f"-{e.key.decode()}" if e.operation == removed else f"{e.key.decode()}={e.payload.decode()}" for e in events
    ]


class Bench(unittest.TestCase):
    def setUp(self):
        self.channel = self.new_channel()
        self.topics = topic_pb2_grpc.TopicServiceStub(self.channel)
        name = uuid.uuid4().hex[:8]
        self.client_id = f"python-{name}"
        self.topic = f"interop.python.{name}"
        # By its name a keyed topic.
        self.state = f"state.python.{name}"

    def new_channel(self):
        """A channel with a transport of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(os.environ["BOWLINE_ADDRESS"], options=options)
        self.addCleanup(channel.close)
        return channel

    def connect(self, channel=None, client_id=None, **options):
        connection = Connection(channel or self.channel, client_id or self.client_id, **options)
        self.addCleanup(connection.vanish)
        return connection

    def publish_unary(self, payload, **fields):
        request = topic_pb2.PublishRequest(topic=self.topic, event=new_event(payload, **fields))
        return self.topics.Publish(request, timeout=WAIT)

    def store(self, topic, events):
        answer = self.topics.PublishBatch(topic_pb2.PublishBatchRequest(topic=topic, events=events), timeout=WAIT)
        self.assertFalse(answer.HasField("failure"), answer)
        return [stored.cursor for stored in answer.stored]

    def store_payloads(self, *payloads):
        return self.store(self.topic, [new_event(payload.encode()) for payload in payloads])

    def store_changes(self, *wanted):
        """Changes of the keyed topic, written as `changes` writes them."""
        events = []
        for change in wanted:
            if change.startswith("-"):
                events.append(new_event(b"", key=change[1:].encode(), operation=topic_pb2.OPERATION_DELETE))
            else:
                key, payload = change.split("=")
                events.append(new_event(payload.encode(), key=key.encode()))
        return self.store(self.state, events)
