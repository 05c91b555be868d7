"""Shows, in a real Jaeger, a publish and its deliveries to two clients while every stream is open.

    show.py JAEGER BOWLINE OUTPUT

Starts both programs on free ports of loopback, has one client publish and two read, and asks Jaeger's HTTP API, as its
page does, until everything is there or ten seconds have passed since the event was delivered. What Jaeger answered is
written to OUTPUT, without what differs from run to run. Exits with 0 only if it was all there.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

LIMIT = 10.0
START = 60.0
STREAM = "bowline.v1.StreamService/StreamData"

CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
extensions:
  jaeger_storage:
    backends: {{memory: {{memory: {{max_traces: 1000}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{http}"}}
    grpc: {{endpoint: "127.0.0.1:{grpc}"}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def until(what, holds, limit=START):
    """Waits for something; how long that took, and what it was."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        try:
            found = holds()
        except OSError:
            found = None
        if found:
            return time.monotonic() - begun, found
        time.sleep(0.1)
    sys.exit(f"jaeger: {what} did not come to be within {limit:.0f} s")


def spans(jaeger, operation):
    query = urllib.parse.urlencode({"service": "bowline", "operation": operation, "limit": 100, "lookback": "1h"})
    traces = get(f"{jaeger}/api/traces?{query}")["data"] or []
    return [span for trace in traces for span in trace["spans"] if span["operationName"] == operation]


def tag(span, key):
    return next((tag["value"] for tag in span["tags"] if tag["key"] == key), None)


def links(span):
    return [(r["traceID"], r["spanID"]) for r in span["references"] if r["refType"] == "FOLLOWS_FROM"]


def all_there(jaeger):
    """Three openings, the publish, and two deliveries that link to it; none before all of them."""
    openings, publishes, deliveries = (spans(jaeger, name) for name in (STREAM, "publish", "deliver"))
    if (len(openings), len(publishes), len(deliveries)) != (3, 1, 2):
        return None
    return {"openings": openings, "publish": publishes, "deliveries": deliveries}


def check(found, jaeger):
    publish, deliveries = found["publish"][0], found["deliveries"]
    for delivery in deliveries:
        assert links(delivery) == [(publish["traceID"], publish["spanID"])], delivery
        assert tag(delivery, "messaging.message.id") == tag(publish, "messaging.message.id"), delivery
    assert tag(publish, "messaging.client.id") == "alice", publish
    assert sorted(tag(delivery, "messaging.client.id") for delivery in deliveries) == ["bob", "carol"], deliveries
    assert sorted(tag(opening, "bowline.client.id") for opening in found["openings"]) == ["alice", "bob", "carol"]
    assert spans(jaeger, f"{STREAM} close") == [], "no stream has ended"


def trimmed(found, seconds):
    """What a reader wants to see. Ids and times are of the run."""
    keep = ("traceID", "spanID", "operationName", "references", "startTime", "duration")
    said = lambda span: {t["key"]: t["value"] for t in span["tags"] if t["key"].split(".")[0] in WORDS}
    rows = {name: [{**{k: s[k] for k in keep}, "tags": said(s)} for s in group] for name, group in found.items()}
    return {"seconds_until_all_was_there": round(seconds, 1), **rows}


WORDS = {"messaging", "rpc", "bowline", "span", "error"}


def main(jaeger_program, bowline, output):
    http, grpc, otlp = free_ports(3)
    jaeger = f"http://127.0.0.1:{http}"
    running = []

    def start(*command, **options):
        running.append(subprocess.Popen(command, text=True, **options))
        return running[-1]

    with tempfile.TemporaryDirectory() as home:
        config = os.path.join(home, "jaeger.yaml")
        with open(config, "w") as file:
            file.write(CONFIG.format(http=http, grpc=grpc, otlp=otlp))
        try:
            start(jaeger_program, "--config", config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until("Jaeger", lambda: get(f"{jaeger}/api/services"))
            environment = {
                **os.environ,
                "XDG_STATE_HOME": home,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}",
                "BOWLINE__TELEMETRY__TRACES__SAMPLE_RATIO": "1",
            }
            ports = ("--listen", "127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0")
            server = start(bowline, "serve", *ports, env=environment, stderr=subprocess.PIPE)
            address = {}
            for line in server.stderr:
                if "listening" in line:
                    where = re.search(r"127\.0\.0\.1:\d+", line)[0]
                    address["admin" if "admin" in line else "clients"] = where
                if len(address) == 2:
                    break
            environment["BOWLINE_SERVER"] = f"http://{address['clients']}"

            def client(*arguments):
                return start(bowline, *arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

            connected = lambda count: lambda: len(get(f"http://{address['admin']}/connections")["connections"]) == count
            readers = [client("sub", "prices", "--client-id", name) for name in ("bob", "carol")]
            until("two readers", connected(2))
            until("two sessions", lambda: readers_ready(address["admin"], 2))
            publisher = client("pub", "prices", "--client-id", "alice")
            publisher.stdin.write("42\n")
            publisher.stdin.flush()
            for reader in readers:
                assert reader.stdout.readline() == "42\n"
            seconds, found = until("all of it in Jaeger", lambda: all_there(jaeger), LIMIT)
            check(found, jaeger)
            assert connected(3)(), "every stream is still open"
            assert all(process.poll() is None for process in running), "and every program runs"
            with open(output, "w") as file:
                json.dump(trimmed(found, seconds), file, indent=1)
                file.write("\n")
            print(f"jaeger: a publish and its deliveries to two clients were there after {seconds:.1f} s")
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


def readers_ready(admin, count):
    return sum(row["sessions"] for row in get(f"http://{admin}/connections")["connections"]) == count


if __name__ == "__main__":
    main(*sys.argv[1:])
