{{/*
What no schema can say: values that make no sense together. Everything wrong is said at once, each in a sentence that
names the value to change. Included by deployment.yaml, which is always rendered.
*/}}
{{- define "bowline.validate" -}}
{{- $wrong := concat (include "bowline.wrong.server" . | fromJsonArray) (include "bowline.wrong.nats" . | fromJsonArray) (include "bowline.wrong.objects" . | fromJsonArray) -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThese values cannot be:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}

{{/* The process: its settings, its replicas, its end. */}}
{{- define "bowline.wrong.server" -}}
{{- $v := .Values -}}
{{- $c := $v.config -}}
{{- $wrong := list -}}
{{- $ours := dict "transport.listen" "listen.address and listen.port" "transport.tls.enabled" "tls.enabled" "transport.tls.cert_file" "tls.secretName" "transport.tls.key_file" "tls.secretName" "transport.tls.client_ca_file" "tls.clientCa.secretName" "admin.listen" "listen.address and listen.adminPort" "admin.enabled" "nothing: the probes need that port" "admin.token" "adminToken.secretName, since a ConfigMap is no place for secrets" "admin.token_file" "adminToken.secretName" "telemetry.otlp.headers" "otlp.headersSecret, since a ConfigMap is no place for secrets" -}}
{{- range $path, $instead := $ours -}}
{{- $parts := splitList "." $path -}}
{{- $at := $c -}}
{{- range $parts -}}
{{- $at = kindIs "map" $at | ternary (get ($at | default dict) .) "" -}}
{{- end -}}
{{- if not (or (kindIs "invalid" $at) (eq (toString $at) "")) -}}
{{- $wrong = append $wrong (printf "config.%s is decided by the chart; set %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- if eq $c.auth.mode "loopback" -}}
{{- $wrong = append $wrong "config.auth.mode is \"loopback\", with which the server does not start on an address that clients can reach; set \"anonymous\" if the network may be trusted" -}}
{{- end -}}
{{- $nats := eq (dig "broker" "kind" "memory" $c) "nats" -}}
{{- if and (include "bowline.replicated" .) (not $v.independentReplicas) (not $nats) -}}
{{- $wrong = append $wrong "there can be more than one replica (replicaCount, autoscaling), but the broker is memory: each would have topics of its own, and clients of one would not see what those of another publish; set config.broker.kind to \"nats\" and name its servers, set replicaCount to 1, or say independentReplicas: true if that is wanted" -}}
{{- end -}}
{{- $told := add (include "bowline.seconds" $c.drain.spread) (include "bowline.seconds" $c.drain.grace) -}}
{{- if gt $told (include "bowline.seconds" $c.transport.goaway_timeout | int64) -}}
{{- $wrong = append $wrong (printf "config.drain.spread and config.drain.grace make %d s, longer than config.transport.goaway_timeout (%s): clients would be cut before the time they were given" $told $c.transport.goaway_timeout) -}}
{{- end -}}
{{- $leaving := include "bowline.leaving" . | int64 -}}
{{- if and $v.drain.terminationGracePeriodSeconds (lt (int64 $v.drain.terminationGracePeriodSeconds) $leaving) -}}
{{- $wrong = append $wrong (printf "drain.terminationGracePeriodSeconds is %d, but leaving can take %d s (preStop, lame_duck, 2, spread, grace, 5): pods would be killed with clients still on them; set it to at least that, or to null" (int64 $v.drain.terminationGracePeriodSeconds) $leaving) -}}
{{- end -}}
{{- if eq (int $v.listen.port) (int $v.listen.adminPort) -}}
{{- $wrong = append $wrong (printf "listen.port and listen.adminPort are both %d; clients and operators need a port each" (int $v.listen.port)) -}}
{{- end -}}
{{- $tls := $v.tls -}}
{{- if and $tls.enabled (not $tls.secretName) (not $tls.certificate.enabled) -}}
{{- $wrong = append $wrong "tls.enabled needs a certificate: set tls.secretName, or tls.certificate.enabled" -}}
{{- end -}}
{{- if and $tls.clientCa.secretName (not $tls.enabled) -}}
{{- $wrong = append $wrong "tls.clientCa.secretName is set, but nobody is asked for a certificate without TLS; set tls.enabled too" -}}
{{- end -}}
{{- $optional := eq (dig "tls" "client_cert" "required" $c.transport) "optional" -}}
{{- if and $tls.clientCa.secretName $v.tests.enabled (not $v.tests.certificateSecret) (not $optional) -}}
{{- $wrong = append $wrong "helm test could not connect: with tls.clientCa.secretName it has to show a certificate; set tests.certificateSecret, or tests.enabled: false" -}}
{{- end -}}
{{- if and $tls.certificate.enabled (not $tls.enabled) -}}
{{- $wrong = append $wrong "tls.certificate.enabled asks for a certificate that nothing uses; set tls.enabled too" -}}
{{- end -}}
{{- if and $tls.certificate.enabled (not $tls.certificate.issuerRef.name) -}}
{{- $wrong = append $wrong "tls.certificate.issuerRef.name is missing: who signs the certificate?" -}}
{{- end -}}
{{- if and $tls.enabled $v.probes.readiness.grpc -}}
{{- $wrong = append $wrong "probes.readiness.grpc cannot be used with tls.enabled: Kubernetes asks gRPC ports without TLS only" -}}
{{- end -}}
{{- if eq $v.image.tag "latest" -}}
{{- $wrong = append $wrong "image.tag is \"latest\", which names no version: a rollback could not go back to what ran; set a version or image.digest" -}}
{{- end -}}
{{- $wrong | toJson -}}
{{- end -}}

{{/* Where topics are, if not in memory. */}}
{{- define "bowline.wrong.nats" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- $is := eq (dig "broker" "kind" "memory" $v.config) "nats" -}}
{{- $nats := dig "broker" "nats" (dict) $v.config -}}
{{- $servers := get $nats "servers" | default (list) -}}
{{- if and $is (not $servers) -}}
{{- $wrong = append $wrong "config.broker.kind is \"nats\", and config.broker.nats.servers names none: by default that is the pod itself; set it to where they are, such as [\"nats://nats.nats:4222\"]" -}}
{{- end -}}
{{- range $part := list "auth" "ca" "certificate" "system" -}}
{{- if and (get $v.nats $part).secretName (not $is) -}}
{{- $wrong = append $wrong (printf "nats.%s.secretName is set, but config.broker.kind is not \"nats\": nobody is shown it" $part) -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := include "bowline.natsFiles" . | fromJson -}}
{{- if and (ne $key "synced") (get $nats $key) -}}
{{- $wrong = append $wrong (printf "config.broker.nats.%s is set, and a Secret of nats is to be in its place; set one of them" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $v.nats.auth.secretName (eq $v.nats.auth.kind "password") (not (get $nats "user")) -}}
{{- $wrong = append $wrong "nats.auth.kind is \"password\": whose? Set config.broker.nats.user" -}}
{{- end -}}
{{- $synced := get $nats "synced" | default (dict) -}}
{{- if and $v.nats.system.secretName (not (get $synced "tag")) -}}
{{- $wrong = append $wrong "nats.system.secretName is for topics of durability \"synced\", which need config.broker.nats.synced.tag" -}}
{{- end -}}
{{- if and $v.nats.system.secretName (eq $v.nats.system.kind "password") (not (get $synced "user")) -}}
{{- $wrong = append $wrong "nats.system.kind is \"password\": whose? Set config.broker.nats.synced.user" -}}
{{- end -}}
{{- $tls := get $nats "tls" | default false -}}
{{- range $servers -}}
{{- $tls = or $tls (hasPrefix "tls://" .) -}}
{{- end -}}
{{- if and $is (or $v.nats.ca.secretName $v.nats.certificate.secretName) (not $tls) -}}
{{- $wrong = append $wrong "nats.ca and nats.certificate are for TLS, which nothing insists on; set config.broker.nats.tls: true, or write tls:// in config.broker.nats.servers" -}}
{{- end -}}
{{- $wrong | toJson -}}
{{- end -}}

{{/* The objects around it. */}}
{{- define "bowline.wrong.objects" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- $zero := list "0" "0%" -}}
{{- if and (has (toString $v.updateStrategy.maxUnavailable) $zero) (has (toString $v.updateStrategy.maxSurge) $zero) -}}
{{- $wrong = append $wrong "updateStrategy.maxUnavailable and updateStrategy.maxSurge are both 0: a rollout could not begin" -}}
{{- end -}}
{{- $budget := $v.podDisruptionBudget -}}
{{- if and $budget.enabled (eq (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable)) -}}
{{- $wrong = append $wrong "podDisruptionBudget takes one of minAvailable and maxUnavailable; set the other to null" -}}
{{- end -}}
{{- $scaling := $v.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $wrong = append $wrong (printf "autoscaling.minReplicas (%d) is more than autoscaling.maxReplicas (%d)" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and $scaling.enabled (eq $scaling.engine "keda") (not $scaling.prometheusAddress) -}}
{{- $wrong = append $wrong "autoscaling.engine keda needs autoscaling.prometheusAddress, the Prometheus to ask for connections" -}}
{{- end -}}
{{- $limit := dig "registry" "max_connections" 0 $v.config | int -}}
{{- if and $scaling.enabled $limit (gt (int $scaling.connectionsPerPod) $limit) -}}
{{- $wrong = append $wrong (printf "autoscaling.connectionsPerPod (%d) is more than config.registry.max_connections (%d): clients would be refused, and no pod added" (int $scaling.connectionsPerPod) $limit) -}}
{{- end -}}
{{- if and $scaling.enabled $scaling.targetCPU (not (dig "requests" "cpu" "" $v.resources)) -}}
{{- $wrong = append $wrong "autoscaling.targetCPU is a share of resources.requests.cpu, which is missing" -}}
{{- end -}}
{{- if and $v.grpcRoute.enabled (not $v.grpcRoute.parentRefs) -}}
{{- $wrong = append $wrong "grpcRoute.enabled needs grpcRoute.parentRefs: which gateway?" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- $wrong = append $wrong "ingress.enabled needs ingress.hosts: which names?" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
{{- $wrong = append $wrong "serviceMonitor.enabled and podMonitor.enabled would count everything twice; enable one" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled (not $v.adminService.enabled) -}}
{{- $wrong = append $wrong "serviceMonitor.enabled needs adminService.enabled; podMonitor does without a service" -}}
{{- end -}}
{{- if and $v.service.nodePort (eq $v.service.type "ClusterIP") -}}
{{- $wrong = append $wrong "service.nodePort is set, but service.type is ClusterIP, which has none" -}}
{{- end -}}
{{- if and $v.service.externalTrafficPolicy (eq $v.service.type "ClusterIP") -}}
{{- $wrong = append $wrong "service.externalTrafficPolicy is set, but service.type is ClusterIP, to which nothing comes from outside" -}}
{{- end -}}
{{- if and (or $v.service.loadBalancerClass $v.service.loadBalancerSourceRanges) (ne $v.service.type "LoadBalancer") -}}
{{- $wrong = append $wrong "service.loadBalancerClass and service.loadBalancerSourceRanges need service.type LoadBalancer" -}}
{{- end -}}
{{- if and $v.serviceAccount.annotations (not $v.serviceAccount.create) -}}
{{- $wrong = append $wrong "serviceAccount.annotations are for an account that the chart makes; set serviceAccount.create, or annotate your own" -}}
{{- end -}}
{{- $wrong | toJson -}}
{{- end -}}
