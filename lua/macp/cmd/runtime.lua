-- `macp runtime`: the runtime role alone.

local log = require("host.log")

local console = require("macp.core.console")
local json = require("macp.core.json")
local modes_option = require("macp.cmd.shared.modes_option")
local roles = require("macp.cmd.shared.roles")

local BAD_CONFIG = 2 -- exit code

local M = {
  summary = "Run the authority of coordination sessions (gRPC) alone.",
  help = [[
  MACP_ALLOW_INSECURE=1 macp runtime            on 127.0.0.1:50051, any bearer value is an identity
  MACP_ALLOW_INSECURE=1 MACP_MEMORY_ONLY=1 MACP_BIND_ADDR=127.0.0.1:0 macp runtime
                                                for tests: nothing on disk, a free port
  MACP_AUTH_TOKENS_FILE=tokens.json MACP_TLS_CERT_PATH=cert.pem MACP_TLS_KEY_PATH=key.pem macp runtime
                                                with identities and TLS
  MACP_AUTH_ISSUER=https://issuer MACP_AUTH_JWKS_URL=https://issuer/.well-known/jwks.json macp runtime
                                                with signed tokens (JWT); `sub` is the sender, `macp_scopes` its rights
  macp runtime --modes ./modes                  add or override coordination modes; changes are served at once
  MACP_POLICIES_DIR=policies MACP_POLICIES_DRY_RUN=1 macp runtime
                                                only tells what is wrong with the policy files; ends with 0 or 1
  macp runtime --check                          would it start? Settings, tokens, keys, TLS files, modes, policies,
                                                store; every problem on its line, exit code 0 or 2
  macp config runtime                           every setting of it

Tokens: {"tokens":[{"token":"k7-planner","sender":"agent://planner"},
                   {"token":"k7-watch","sender":"control-plane","can_start_sessions":false,"is_observer":true}]}
Token and key files are read again when they change; streams of a withdrawn or expired credential end.

An accepted message is on disk (MACP_DATA_DIR) before it is acknowledged. TERM or INT ends streams with UNAVAILABLE,
finishes calls and stops; the next start continues every session.]],
  options = {
    { name = "check", doc = "Only tell what a start, or a mode, would be refused for; exit code 0 or 2." },
    { name = "json", doc = "With --check: print JSON." },
    modes_option,
  },
}

local function verdict(found)
  if #found.problems == 0 then return "the runtime would start" end
  if #found.problems > found.unserved then return "the runtime would not start" end
  return "the runtime would start, without the modes that are broken"
end

local function print_findings(found)
  local style = console.style()
  for _, note in ipairs(found.notes) do console.print(note) end
  for _, warning in ipairs(found.warnings) do console.print(style.yellow("warning: ") .. warning) end
  for _, problem in ipairs(found.problems) do console.print(style.red("problem: ") .. problem) end
  console.print(verdict(found))
end

local function print_json(found)
  console.print(json.encode({
    ok = #found.problems == 0, problems = json.array(found.problems), warnings = json.array(found.warnings),
    notes = json.array(found.notes),
  }, { sorted = true }))
end

-- (yields)
local function check(opts, cfg)
  if not opts.log_level then log.set_level("error") end
  local found = require("macp.runtime.check").run(cfg, roles.services(cfg, { mode_dirs = opts.modes }))
  if opts.json then print_json(found) else print_findings(found) end
  return #found.problems == 0 and 0 or BAD_CONFIG
end

---What --check prints when the settings cannot even be read.
function M.report_config(opts, problems)
  if not (opts.check and opts.json) then return nil end
  print_json({ problems = problems, warnings = {}, notes = {} })
  return BAD_CONFIG
end

---(yields until the process is told to end)
function M.run(opts, cfg)
  if opts.check then return check(opts, cfg) end
  if opts.json then return nil, { code = "USAGE", message = "--json goes with --check" } end
  return roles.serve({ "runtime" }, cfg, { mode_dirs = opts.modes })
end

return M
