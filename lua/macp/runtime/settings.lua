-- What settings of the role mean together that belong to no part of it. Every problem names its variable.

local host_log = require("host.log")

local M = {}

---Level of the log lines that tell how open the role is: `macp dev` is open on purpose and says so itself; anywhere else
---it deserves a warning.
function M.level_of_openness(cfg) return rawget(cfg, "is_open_on_purpose") and "info" or "warn" end

---Problems between settings that each are fine on their own.
---@return string[]
function M.problems(cfg)
  local problems = {}
  if cfg.list_sessions_default_page_size > cfg.list_sessions_max_page_size then
    problems[1] = "MACP_LIST_SESSIONS_DEFAULT_PAGE_SIZE: must not be above MACP_LIST_SESSIONS_MAX_PAGE_SIZE"
  end
  return problems
end

---Tells that the interface is open, when it is.
---@param has_tls boolean
function M.announce(cfg, has_tls)
  if has_tls then return end
  host_log[M.level_of_openness(cfg)]("tls.off", { reason = "the gRPC interface is in plain text" })
end

return M
