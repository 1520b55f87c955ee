-- `macp runtime`: the runtime role alone.

local roles = require("macp.cmd.shared.roles")

local M = {
  summary = "Run the authority of coordination sessions (gRPC) alone.",
  help = [[
  MACP_ALLOW_INSECURE=1 macp runtime            on 127.0.0.1:50051, any bearer value is an identity
  MACP_ALLOW_INSECURE=1 MACP_MEMORY_ONLY=1 MACP_BIND_ADDR=127.0.0.1:0 macp runtime
                                                for tests: nothing on disk, a free port
  MACP_AUTH_TOKENS_FILE=tokens.json MACP_TLS_CERT_PATH=cert.pem MACP_TLS_KEY_PATH=key.pem macp runtime
                                                with identities and TLS
  macp runtime --modes ./modes                  add or override coordination modes; changes are served at once
  MACP_POLICIES_DIR=policies MACP_POLICIES_DRY_RUN=1 macp runtime
                                                only tells what is wrong with the policy files; ends with 0 or 1
  macp config runtime                           every setting of it

Tokens: {"tokens":[{"token":"k7-planner","sender":"agent://planner"},
                   {"token":"k7-watch","sender":"control-plane","can_start_sessions":false,"is_observer":true}]}

An accepted message is on disk (MACP_DATA_DIR) before it is acknowledged. TERM or INT ends streams with UNAVAILABLE,
finishes calls and stops; the next start continues every session.]],
  options = {
    { name = "modes", short = "m", value = "DIR", repeated = true, doc = "Folder of coordination modes." },
  },
}

---(yields until the process is told to end)
function M.run(opts, cfg) return roles.serve({ "runtime" }, cfg, { mode_dirs = opts.modes }) end

return M
