"""What is in deploy/: the manifests are those of the chart, the compose file is one, and what it names is there."""

import json
import os
import unittest

import jsonschema
import yaml

from schemas import CRDS, problems
from test_chart import BLESS, CHART, NEWEST, OLDEST, ROOT, bowline, helm

DEPLOY = ROOT / "deploy"
HEADING = """\
# The chart helm/bowline as plain manifests, with the values of values.yaml beside this file.
# Written by `make chart BLESS=1`: do not edit.
"""


class Manifests(unittest.TestCase):
    def setUp(self):
        values = DEPLOY / "kubernetes" / "values.yaml"
        done = helm("template", "bowline", CHART, "--kube-version", NEWEST, "--values", values)
        self.assertEqual(done.returncode, 0, done.stderr)
        # What is applied by hand is not Helm's.
        ours = ("helm.sh/chart:", "app.kubernetes.io/managed-by:", "# Source:")
        lines = [line for line in done.stdout.splitlines() if not line.strip().startswith(ours)]
        self.rendered = HEADING + "\n".join(lines) + "\n"

    def test_they_are_those_of_the_chart(self):
        file = DEPLOY / "kubernetes" / "bowline.yaml"
        if BLESS:
            file.write_text(self.rendered)
        self.assertEqual(file.read_text(), self.rendered, "make chart BLESS=1 writes it anew")

    def test_they_are_valid_and_say_nothing_of_helm(self):
        for item in yaml.safe_load_all(self.rendered):
            for version in (OLDEST, NEWEST):
                self.assertEqual(problems(item, version), [])
            self.assertNotIn("helm.sh", json.dumps(item))


class Compose(unittest.TestCase):
    def setUp(self):
        self.folder = DEPLOY / "compose"
        self.file = yaml.safe_load((self.folder / "compose.yaml").read_text())
        self.cluster = yaml.safe_load((self.folder / "cluster.yaml").read_text())

    def test_it_follows_the_specification(self):
        schema = json.loads((CRDS / "compose-spec.json").read_text())
        jsonschema.validate(self.cluster, schema)
        jsonschema.validate(self.file, schema)
        self.file["services"]["bowline"]["read_onyl"] = True
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(self.file, schema)

    def test_what_it_mounts_is_there_and_no_port_faces_the_network(self):
        for file in (self.file, self.cluster):
            seen = set()
            for name, service in file["services"].items():
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0]
                    self.assertTrue(source in file.get("volumes", {}) or (self.folder / source).exists(), f"{name}: {volume}")
                for port in service.get("ports", []):
                    self.assertTrue(port.startswith("127.0.0.1:"), f"{name}: {port}")
                    self.assertNotIn(port.split(":")[1], seen, f"{name}: {port}")
                    seen.add(port.split(":")[1])

    def test_the_replicas_of_the_cluster_have_settings_that_the_server_takes_and_name_every_nats_server(self):
        services = self.cluster["services"]
        replicas = [service for name, service in services.items() if name.startswith("bowline-")]
        servers = [name for name in services if name.startswith("nats-")]
        self.assertEqual((len(replicas), len(servers)), (3, 3))
        for replica in replicas:
            given = replica["environment"]
            done = bowline("config", "--check", "--config", DEPLOY / "image" / "bowline.toml", env={**os.environ, **given})
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            named = json.loads(given["BOWLINE__BROKER__NATS__SERVERS"])
            self.assertEqual(named, [f"nats://{name}:4222" for name in servers])
        for name in servers:
            words = services[name]["command"]
            self.assertIn(f"--server_name={name}", words)
            self.assertIn("--routes=" + ",".join(f"nats://{other}:6222" for other in servers), words)

    def test_it_runs_the_program_of_this_version_as_the_chart_does(self):
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        for service in (self.file["services"]["bowline"], self.cluster["services"]["bowline-1"]):
            self.assertEqual(service["image"], f"bowline:{version}")
            self.assertEqual((service["user"], service["read_only"], service["cap_drop"]), ("65532:65532", True, ["ALL"]))
