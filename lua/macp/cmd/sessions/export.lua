-- `macp sessions export`: a history as JSON lines in the form of the reference runtime's log.

local console = require("macp.core.console")
local history = require("macp.runtime.history")
local log_entry = require("macp.runtime.log_entry")
local store = require("macp.cmd.shared.store")

local M = {
  summary = "Write one session's history as JSON lines.",
  help = [[
  macp sessions export ID > session.jsonl
  macp sessions export ID --compat > sessions/ID/log.jsonl     payloads as older runtimes read them

One line per accepted envelope and per note of the runtime: message_id, received_at_ms, sender, message_type, payload,
entry_kind, ... and on the SessionStart everything the session is bound to. The payload is `raw_payload_b64`; with
--compat (or MACP_LOG_COMPAT=1) it is `raw_payload`, an array of integers. crc32c is that of the line without it.]],
  options = { { name = "compat", doc = "Payloads as arrays of integers." } },
  arguments = { { name = "ID", required = true, doc = "Session id." } },
}

---(yields)
function M.run(opts, cfg)
  local id, is_compat = opts.args[1], opts.compat or cfg.runtime.log_compat
  return store.with(cfg, function(opened)
    local session
    local ok, err = history.each(opened.journal, id, function(record)
      local reason
      session, reason = history.add(session, id, record)
      if session == nil then return nil, reason end
      local line = log_entry.line(record, session, { compat = is_compat })
      if line then console.print(line) end
      return true
    end)
    if not ok then return nil, err end
    return 0
  end)
end

return M
