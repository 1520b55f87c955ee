-- A sample: the fixtures of this folder play against it. Registering a mode puts its own descriptor here.
return {
  mode = "ext.sample.v1",
  mode_version = "1.0.0",
  title = "Sample",
  description = "Messages whose payloads only the participants understand.",
  determinism_class = "structural-only",
  participant_model = "peer",
  message_types = { "SessionStart", "Ping", "Pong", "Commitment" },
  terminal_message_types = { "Commitment" },
  schema_uris = { proto = "https://example.org/sample.proto" },
}
