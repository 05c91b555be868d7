{{/* Names and labels, and what more than one template needs; no decisions. */}}

{{- define "bowline.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* 50 characters at most: the longest of the suffixes, -headless, has to fit into 63. */}}
{{- define "bowline.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "bowline.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "bowline.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What Services and the Deployment select by: never changes, and no test pod has it. */}}
{{- define "bowline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bowline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "bowline.labels" -}}
{{ include "bowline.selectorLabels" . }}
{{ include "bowline.commonLabels" . }}
{{- end -}}

{{- define "bowline.testLabels" -}}
app.kubernetes.io/name: {{ include "bowline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{ include "bowline.commonLabels" . }}
{{- end -}}

{{- define "bowline.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "bowline.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "bowline.fullname" .) "default") -}}
{{- end -}}

{{- define "bowline.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- $name := $registry | empty | ternary .Values.image.repository (printf "%s/%s" $registry .Values.image.repository) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "bowline.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "bowline.tlsSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "bowline.fullname" .)) -}}
{{- end -}}

{{/* The ports of the NATS servers that are named, each once. */}}
{{- define "bowline.natsPorts" -}}
{{- $ports := list -}}
{{- range dig "broker" "nats" "servers" (list) .Values.config -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "4222" | int) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* Whether there can be more than one pod: "true" or nothing. */}}
{{- define "bowline.replicated" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}true{{- end -}}
{{- end -}}

{{/* Whole seconds, rounded up, of a duration as the server writes them: "1m 30s". */}}
{{- define "bowline.seconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "sec" 1000 "m" 60000 "min" 60000 "h" 3600000 "day" 86400000 "days" 86400000 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" . -1 -}}
{{- $total = add $total (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- div (add $total 999) 1000 -}}
{{- end -}}

{{/* What leaving can take: preStop, lame duck, 2 s to close whoever is left, spread, grace, 5 s for the last spans. */}}
{{- define "bowline.leaving" -}}
{{- $drain := .Values.config.drain -}}
{{- $told := add (include "bowline.seconds" $drain.lame_duck) (include "bowline.seconds" $drain.spread) (include "bowline.seconds" $drain.grace) -}}
{{- add (int .Values.drain.preStopSeconds) 2 $told 5 -}}
{{- end -}}

{{- define "bowline.gracePeriod" -}}
{{- .Values.drain.terminationGracePeriodSeconds | default (add (include "bowline.leaving" .) (int .Values.drain.slackSeconds)) -}}
{{- end -}}
