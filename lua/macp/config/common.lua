-- Settings that every role shares. Fields of an entry: see config/init.lua.

return {
  {
    key = "app.environment", env = { "MACP_ENV", "NODE_ENV" }, type = "string", default = "development",
    doc = "`development` allows what is handy on one machine; anything else checks the settings strictly at start.",
  },
  {
    key = "log.level", env = { "MACP_LOG_LEVEL", "LOG_LEVEL" }, alias = "RUST_LOG", type = "enum",
    choices = { "debug", "info", "warn", "error" }, default = "info", doc = "Least important lines that are logged.",
  },
  {
    key = "log.format", env = { "MACP_LOG_FORMAT", "LOG_FORMAT" }, type = "enum",
    choices = { "auto", "json", "text", "colour" }, default = "auto",
    doc = "Log lines: JSON, readable text, or by `auto` text on a terminal and JSON elsewhere.",
  },
}
