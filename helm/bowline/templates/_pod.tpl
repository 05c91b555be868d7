{{/* Parts of the pod that are long or have a reason of their own. */}}

{{/* Three questions, and none is asked in place of another: started? should clients come? can it answer at all? */}}
{{- define "bowline.probes" -}}
startupProbe:
  httpGet:
    path: /startupz
    port: admin
  {{- toYaml .probes.startup | nindent 2 }}
readinessProbe:
  {{- if .probes.readiness.grpc }}
  grpc:
    port: {{ .listen.port }}
  {{- else }}
  httpGet:
    path: /readyz
    port: admin
  {{- end }}
  {{- omit .probes.readiness "grpc" | toYaml | nindent 2 }}
livenessProbe:
  httpGet:
    path: /livez
    port: admin
  {{- toYaml .probes.liveness | nindent 2 }}
{{- end -}}

{{/* Where this pod is, for its traces; a secret; and what the user adds. */}}
{{- define "bowline.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.uid=$(POD_UID),k8s.node.name=$(NODE_NAME)
{{- with .Values.otlp.headersSecret }}
{{- if .name }}
- name: BOWLINE__TELEMETRY__OTLP__HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What is shown to NATS, from Secrets, as files of one volume. */}}
{{- define "bowline.natsSources" -}}
{{- with .Values.nats -}}
{{- if .auth.secretName }}
- secret:
    name: {{ .auth.secretName }}
    items:
      - key: {{ .auth.key }}
        path: auth
{{- end }}
{{- if .ca.secretName }}
- secret:
    name: {{ .ca.secretName }}
    items:
      - key: {{ .ca.key }}
        path: ca.crt
{{- end }}
{{- if .certificate.secretName }}
- secret:
    name: {{ .certificate.secretName }}
    items:
      - key: {{ .certificate.certKey }}
        path: tls.crt
      - key: {{ .certificate.keyKey }}
        path: tls.key
{{- end }}
{{- if .system.secretName }}
- secret:
    name: {{ .system.secretName }}
    items:
      - key: {{ .system.key }}
        path: system
{{- end }}
{{- end -}}
{{- end -}}

{{/* Which node: spread over zones and hosts, each revision by itself. */}}
{{- define "bowline.scheduling" -}}
{{- with .Values.topologySpreadConstraints -}}
topologySpreadConstraints:
  {{- range . }}
  {{- $ours := dict "labelSelector" (dict "matchLabels" (include "bowline.selectorLabels" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
  - {{ merge (deepCopy .) $ours | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" }}
{{- with get $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
