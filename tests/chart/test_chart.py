"""The chart, as a user meets it: linted, rendered over value files, held to the schemas of Kubernetes, refused.

`make chart` runs it; `make chart BLESS=1` writes the golden renders and the plain manifests anew.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from functools import cache
from pathlib import Path

import yaml

from schemas import problems

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHART = ROOT / "helm" / "bowline"
# The oldest that Chart.yaml allows, and the newest there is a schema for.
OLDEST, NEWEST = "1.30.0", "1.37.0"
CASES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
BLESS = "BLESS" in os.environ
SELECTOR = {
    "app.kubernetes.io/name": "bowline",
    "app.kubernetes.io/instance": "chat",
    "app.kubernetes.io/component": "server",
}


def helm(*words):
    return subprocess.run(["helm", *map(str, words)], capture_output=True, text=True, timeout=60, cwd=ROOT)


def bowline(*words, env=None):
    return subprocess.run([os.environ["BOWLINE"], *words], capture_output=True, text=True, timeout=60, env=env)


def values(case):
    return HERE / "values" / f"{case}.yaml"


def template(*words, version=NEWEST):
    return helm("template", "chat", CHART, "--namespace", "talk", "--kube-version", version, *words)


@cache
def text_of(case, version):
    done = template("--values", values(case), version=version)
    assert done.returncode == 0, f"{case}: {done.stderr}"
    return done.stdout


def render(case, version=NEWEST):
    """Text and objects."""
    text = text_of(case, version)
    return text, [item for item in yaml.safe_load_all(text) if item]


def of(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def one(objects, kind, name="chat-bowline"):
    [found] = [item for item in of(objects, kind) if item["metadata"]["name"] == name]
    return found


def pods(objects):
    """Every pod there will be: (name, metadata, spec)."""
    for item in objects:
        if item["kind"] == "Deployment":
            yield item["metadata"]["name"], item["spec"]["template"]["metadata"], item["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            yield item["metadata"]["name"], item["metadata"], item["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def without_files(text):
    """Without the alerts and the dashboard, which change for reasons of their own and have a test of their own."""
    for file in (CHART / "files").iterdir():
        for depth in (2, 4):
            indented = "\n".join(" " * depth + line for line in file.read_text().rstrip().split("\n"))
            text = text.replace(indented, " " * depth + f"({file.name})")
    return text


@cache
def notes(case):
    """What is printed at the end; only an installation would, so it is rendered as the value of an object."""
    with tempfile.TemporaryDirectory() as scratch:
        chart = shutil.copytree(CHART, Path(scratch) / "bowline")
        text = (chart / "templates" / "NOTES.txt").read_text()
        (chart / "templates" / "notes.yaml").write_text(
            f'{{{{- define "notes" -}}}}{text}{{{{- end -}}}}\nkind: Notes\ntext: {{{{ include "notes" . | toJson }}}}\n'
        )
        words = ("--namespace", "talk", "--kube-version", NEWEST, "--values", values(case))
        done = helm("template", "chat", chart, *words)
    assert done.returncode == 0, done.stderr
    [found] = of([item for item in yaml.safe_load_all(done.stdout) if item], "Notes")
    return found["text"]


def server_of(objects):
    [deployment] = of(objects, "Deployment")
    return next(item for item in deployment["spec"]["template"]["spec"]["containers"] if item["name"] == "bowline")


def for_each_case(check):
    """The test is made of one for each file of values."""

    def test(self):
        for case in CASES:
            with self.subTest(values=case):
                check(self, case)

    return test


class Chart(unittest.TestCase):
    @for_each_case
    def test_lint_has_nothing_to_say(self, case):
        done = helm("lint", "--strict", CHART, "--values", values(case))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    @for_each_case
    def test_what_is_rendered_is_what_was_read(self, case):
        golden, text = HERE / "golden" / f"{case}.yaml", without_files(render(case)[0])
        if BLESS:
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(text)
        self.assertEqual(golden.read_text(), text, "make chart BLESS=1 writes it anew")

    def test_there_are_enough_cases_and_no_render_without_one(self):
        self.assertGreaterEqual(len(CASES), 12)
        self.assertEqual(CASES, sorted(path.stem for path in (HERE / "golden").glob("*.yaml")))

    @for_each_case
    def test_every_object_is_one_of_the_oldest_and_of_the_newest_kubernetes(self, case):
        for version in (OLDEST, NEWEST):
            for item in render(case, version)[1]:
                self.assertEqual(problems(item, version), [], f"{version}: {item['kind']}")

    def test_a_field_that_does_not_exist_is_caught(self):
        objects = render("service-monitor")[1] + render("gateway")[1]
        for kind in ("Deployment", "NetworkPolicy", "ServiceMonitor", "GRPCRoute"):
            item = of(objects, kind)[0]
            planted = {**item, "spec": {**item["spec"], "replicaz": 1}}
            self.assertEqual([problems(item, NEWEST), len(problems(planted, NEWEST))], [[], 1], kind)

    def test_an_older_kubernetes_is_refused(self):
        done = template(version="1.29.9")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("kubeVersion: >=1.30.0-0", done.stderr)

    def test_bad_values_are_refused_with_a_sentence(self):
        cases = yaml.safe_load((HERE / "refused.yaml").read_text())
        self.assertGreaterEqual(len(cases), 20)
        for case in cases:
            with self.subTest(set=case["set"]):
                done = template(*[word for value in case["set"] for word in ("--set", value)])
                self.assertNotEqual(done.returncode, 0, "it was rendered")
                self.assertIn(case["says"], done.stderr)

    def test_all_that_is_wrong_is_said_at_once(self):
        done = template("--set", "replicaCount=2,tls.enabled=true,image.tag=latest,ingress.enabled=true")
        self.assertEqual(done.stderr.count("\n  - "), 4, done.stderr)

    def test_a_pod_gets_the_time_that_leaving_takes(self):
        cases = [
            ([], 60),
            (["drain.preStopSeconds=0"], 50),
            (["drain.slackSeconds=0"], 52),
            (["config.drain.spread=45s"], 75),
            (["config.drain.spread=1m 30s", "config.transport.goaway_timeout=2m"], 120),
            (["config.drain.lame_duck=1500ms"], 62),
            (["config.drain.spread=0s", "config.drain.grace=250ms", "drain.slackSeconds=1"], 19),
            (["config.drain.spread=1h", "config.transport.goaway_timeout=1day"], 3630),
            (["drain.terminationGracePeriodSeconds=52"], 52),
            (["drain.terminationGracePeriodSeconds=300"], 300),
        ]
        for settings, expected in cases:
            with self.subTest(set=settings):
                done = template(*[word for value in settings for word in ("--set", value)])
                self.assertEqual(done.returncode, 0, done.stderr)
                deployment = one([item for item in yaml.safe_load_all(done.stdout) if item], "Deployment")
                self.assertEqual(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], expected)

    @for_each_case
    def test_pods_are_restricted(self, case):
        for name, _, spec in pods(render(case)[1]):
            self.assertIs(spec["automountServiceAccountToken"], False, name)
            self.assertIs(spec["enableServiceLinks"], False, name)
            context = spec["securityContext"]
            self.assertEqual((context["runAsNonRoot"], context["runAsUser"]), (True, 65532), name)
            self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"}, name)
            for container in containers(spec):
                own = container["securityContext"]
                self.assertIs(own["allowPrivilegeEscalation"], False, name)
                self.assertEqual(own["capabilities"], {"drop": ["ALL"]}, name)
                if "bowline:" in container["image"] or "bowline@" in container["image"]:
                    self.assertIs(own["readOnlyRootFilesystem"], True, name)
                self.assertNotIn(":latest", container["image"])
                self.assertRegex(container["image"], r"(:[\w.-]+|@sha256:[0-9a-f]{64})$")

    @for_each_case
    def test_what_refers_to_something_refers_to_something_there(self, case):
        objects = render(case)[1]
        [deployment] = of(objects, "Deployment")
        template, server = deployment["spec"]["template"], server_of(objects)
        labels = template["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in server["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            [asked] = [value for key, value in server[probe].items() if key in ("httpGet", "grpc")]
            self.assertIn(asked["port"], [*ports, *ports.values()])
        for service in of(objects, "Service"):
            self.assertLessEqual(service["spec"]["selector"].items(), labels)
            for port in service["spec"]["ports"]:
                self.assertIn(port["targetPort"], ports)
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        self.assertEqual(volumes, {mount["name"] for mount in server["volumeMounts"]})
        for policy in of(objects, "NetworkPolicy"):
            for rule in policy["spec"]["ingress"]:
                for port in rule.get("ports", []):
                    self.assertIn(port["port"], ports)

    def test_the_three_probes_ask_three_questions(self):
        server = server_of(render("defaults")[1])
        paths = [server[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
        self.assertEqual(paths, ["/startupz", "/readyz", "/livez"])
        self.assertEqual(server["lifecycle"], {"preStop": {"sleep": {"seconds": 10}}})

    def test_selectors_never_change_and_select_no_test(self):
        objects = render("defaults")[1]
        self.assertEqual(one(objects, "Deployment")["spec"]["selector"]["matchLabels"], SELECTOR)
        for service in of(objects, "Service"):
            self.assertEqual(service["spec"]["selector"], SELECTOR)
        for name, metadata, _ in pods(objects):
            is_test = "helm.sh/hook" in metadata.get("annotations", {})
            self.assertEqual(SELECTOR.items() <= metadata["labels"].items(), not is_test, name)
        self.assertEqual(len(of(objects, "Pod")), 3, "three hooks of helm test")

    def test_what_is_off_is_not_there(self):
        kinds = [item["kind"] for item in render("minimal")[1]]
        self.assertEqual(sorted(kinds), ["ConfigMap", "Deployment", "Service"])
        spec = one(render("minimal")[1], "Deployment")["spec"]
        self.assertNotIn("lifecycle", spec["template"]["spec"]["containers"][0])
        self.assertNotIn("replicas", one(render("autoscaling-hpa")[1], "Deployment")["spec"])
        self.assertEqual(of(render("defaults")[1], "PodDisruptionBudget"), [], "of a single replica")
        self.assertEqual(len(of(render("autoscaling-keda")[1], "PodDisruptionBudget")), 1)

    def test_a_changed_setting_replaces_the_pods_and_nothing_else_does(self):
        def checksum(case):
            template = one(render(case)[1], "Deployment")["spec"]["template"]
            return template["metadata"]["annotations"]["checksum/config"]

        self.assertNotEqual(checksum("defaults"), checksum("settings"))
        self.assertEqual(checksum("defaults"), checksum("service-monitor"))

    @for_each_case
    def test_the_server_takes_the_file_it_is_given(self, case):
        scratch = Path(os.environ["SCRATCH"])
        maps = [item.get("data", {}) for item in of(render(case)[1], "ConfigMap")]
        [text] = [data["bowline.toml"] for data in maps if "bowline.toml" in data]
        file = scratch / f"{case}.toml"
        file.write_text(text)
        done = bowline("config", "--check", "--config", file)
        self.assertEqual(done.returncode, 0, text + done.stdout + done.stderr)

    @for_each_case
    def test_the_server_knows_the_variables_it_is_given(self, case):
        server = server_of(render(case)[1])
        given = {item["name"]: item.get("value", "a=b") for item in server["env"]}
        ours = {name: value for name, value in given.items() if name.startswith("BOWLINE")}
        done = bowline("config", "--check", env={**os.environ, **ours})
        self.assertEqual(done.returncode, 0, f"{ours}: {done.stdout}{done.stderr}")

    @for_each_case
    def test_the_steps_of_the_tests_are_commands_there_are(self, case):
        for name, _, spec in pods(render(case)[1]):
            for step in containers(spec) if "-test-" in name else []:
                done = bowline(*step["args"], "--help")
                self.assertEqual(done.returncode, 0, f"{name}: {step['args']}: {done.stderr}")

    def test_the_notes_lead_to_a_first_call(self):
        calls = {
            "defaults": "grpcurl -plaintext 127.0.0.1:50051 grpc.health.v1.Health/Check",
            "tls-secret": "grpcurl -authority chat-bowline.talk.svc 127.0.0.1:50051 grpc.health.v1.Health/Check",
            "load-balancer": "grpcurl -plaintext $address:443 grpc.health.v1.Health/Check",
            "node-port": "grpcurl -plaintext ADDRESS_OF_A_NODE:$port grpc.health.v1.Health/Check",
            "gateway": "grpcurl chat.example.com:443 grpc.health.v1.Health/Check",
            "ingress": "grpcurl chat.example.com:443 grpc.health.v1.Health/Check",
        }
        for case, call in calls.items():
            with self.subTest(values=case):
                self.assertIn(f"  {call}\n", notes(case))
        self.assertIn("A pod has 60 s to leave", notes("defaults"))
        self.assertIn("Mind: there is one replica", notes("defaults"))
        self.assertIn("Mind: the replicas know nothing of each other.", notes("replicas"))
        self.assertIn("Mind: networkPolicy.enabled is false", notes("minimal"))

    def test_the_alerts_and_the_dashboard_are_the_files_of_deploy(self):
        objects = render("service-monitor")[1]
        rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "bowline.rules.yaml").read_text())
        self.assertEqual(one(objects, "PrometheusRule")["spec"], rules)
        dashboard = one(objects, "ConfigMap", "chat-bowline-dashboard")["data"]["bowline.json"]
        expected = (ROOT / "deploy" / "grafana" / "bowline.json").read_text()
        self.assertEqual(json.loads(dashboard), json.loads(expected))

    def test_the_package_is_whole_and_small(self):
        scratch = Path(os.environ["SCRATCH"])
        done = helm("package", CHART, "--destination", scratch)
        self.assertEqual(done.returncode, 0, done.stderr)
        [package] = scratch.glob("bowline-*.tgz")
        self.assertLess(package.stat().st_size, 200_000)
        again = helm("template", "chat", package, "--namespace", "talk", "--kube-version", NEWEST)
        self.assertEqual(again.stdout, render("defaults")[0])


if __name__ == "__main__":
    unittest.main()
