{{/*
A pod of `helm test`: our own program, since the image has no other. Steps run one after the other, the last as the
container, those before as init containers; one that fails ends the pod.
*/}}
{{- define "bowline.testPod" -}}
{{- $root := .root -}}
{{- $name := printf "%s-test-%s" (include "bowline.fullname" $root) .name -}}
{{- $tls := $root.Values.tls.enabled -}}
{{- with .line -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  labels:
    {{- include "bowline.testLabels" $root | nindent 4 }}
  annotations:
    {{- include "bowline.testHook" "-1" | nindent 4 }}
data:
  line: {{ . | quote }}
---
{{ end -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ $name }}
  labels:
    {{- include "bowline.testLabels" $root | nindent 4 }}
  annotations:
    {{- include "bowline.testHook" "0" | nindent 4 }}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 60
  serviceAccountName: {{ include "bowline.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with include "bowline.pullSecrets" $root }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- $scope := dict "root" $root "line" .line }}
  {{- with initial .steps }}
  initContainers:
    {{- range . }}
    {{- include "bowline.testStep" (merge (dict "step" .) $scope) | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include "bowline.testStep" (merge (dict "step" (last .steps)) $scope) | nindent 4 }}
  volumes:
    {{- if .line }}
    - name: line
      configMap:
        name: {{ $name }}
    {{- end }}
    {{- if $tls }}
    - name: ca
      secret:
        secretName: {{ include "bowline.tlsSecret" $root }}
        items:
          - key: {{ $root.Values.tests.caKey }}
            path: ca.crt
    {{- with $root.Values.tests.certificateSecret }}
    - name: certificate
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- end }}
    {{- if not (or .line $tls) }} []{{ end }}
{{- end -}}

{{- define "bowline.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "bowline.testStep" -}}
{{- $values := .root.Values -}}
- name: {{ .step.name }}
  image: {{ include "bowline.image" .root | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    {{- toYaml .step.args | nindent 4 }}
  {{- with .step.service }}
  env:
    - name: BOWLINE_SERVER
      value: {{ ternary "https" "http" $values.tls.enabled }}://{{ . }}
    {{- if $values.tls.enabled }}
    - name: BOWLINE_CA_FILE
      value: /etc/bowline/ca/ca.crt
    {{- if $values.tests.certificateSecret }}
    - name: BOWLINE_CERT_FILE
      value: /etc/bowline/certificate/tls.crt
    - name: BOWLINE_KEY_FILE
      value: /etc/bowline/certificate/tls.key
    {{- end }}
    {{- end }}
  {{- end }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  securityContext:
    {{- toYaml $values.containerSecurityContext | nindent 4 }}
  volumeMounts:
    {{- if .line }}
    - name: line
      mountPath: /etc/bowline/test
      readOnly: true
    {{- end }}
    {{- if $values.tls.enabled }}
    - name: ca
      mountPath: /etc/bowline/ca
      readOnly: true
    {{- if $values.tests.certificateSecret }}
    - name: certificate
      mountPath: /etc/bowline/certificate
      readOnly: true
    {{- end }}
    {{- end }}
    {{- if not (or .line $values.tls.enabled) }} []{{ end }}
{{- end -}}
