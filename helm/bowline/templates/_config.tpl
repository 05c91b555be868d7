{{/* The server's file, of `config` and of what the chart decides. Helm's own toToml makes floats of whole numbers. */}}
{{- define "bowline.config" -}}
{{- $chart := dict
  "transport" (dict "listen" (printf "%s:%d" .Values.listen.address (int .Values.listen.port)))
  "admin" (dict "listen" (printf "%s:%d" .Values.listen.address (int .Values.listen.adminPort)))
-}}
{{- if .Values.tls.enabled -}}
{{- $tls := dict "enabled" true "cert_file" "/etc/bowline/tls/tls.crt" "key_file" "/etc/bowline/tls/tls.key" -}}
{{- if .Values.tls.clientCa.secretName -}}
{{- $_ := set $tls "client_ca_file" "/etc/bowline/client-ca/ca.crt" -}}
{{- end -}}
{{- $_ := set $chart.transport "tls" $tls -}}
{{- end -}}
{{- if .Values.adminToken.secretName -}}
{{- $_ := set $chart.admin "token_file" (printf "/etc/bowline/admin/%s" .Values.adminToken.key) -}}
{{- end -}}
{{- with include "bowline.natsFiles" . | fromJson -}}
{{- $_ := set $chart "broker" (dict "nats" .) -}}
{{- end -}}
{{- range $section, $settings := mergeOverwrite (deepCopy .Values.config) $chart }}
[{{ $section }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ include "bowline.toml" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The settings that name files of NATS, as JSON; an empty object if there are none. */}}
{{- define "bowline.natsFiles" -}}
{{- $names := dict "credentials" "credentials_file" "nkey" "nkey_file" "token" "token_file" "password" "password_file" -}}
{{- $nats := dict -}}
{{- with .Values.nats -}}
{{- if .auth.secretName -}}
{{- $_ := set $nats (get $names .auth.kind) "/etc/bowline/nats/auth" -}}
{{- end -}}
{{- if .ca.secretName -}}
{{- $_ := set $nats "ca_file" "/etc/bowline/nats/ca.crt" -}}
{{- end -}}
{{- if .certificate.secretName -}}
{{- $_ := set $nats "certificate_file" "/etc/bowline/nats/tls.crt" -}}
{{- $_ := set $nats "key_file" "/etc/bowline/nats/tls.key" -}}
{{- end -}}
{{- if .system.secretName -}}
{{- $_ := set $nats "synced" (dict (get $names .system.kind) "/etc/bowline/nats/system") -}}
{{- end -}}
{{- end -}}
{{- $nats | toJson -}}
{{- end -}}

{{/* One value in TOML. Its strings and lists are those of JSON; its tables and numbers are not. */}}
{{- define "bowline.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ $key }} = {{ include "bowline.toml" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $i, $item := . }}{{ if $i }}, {{ end }}{{ include "bowline.toml" $item }}{{ end }}]
{{- else if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{ int64 . }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}
