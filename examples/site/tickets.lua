-- Extension providers: sessions that name a ticket at their start (extension `ticket`) note in the runtime's log when they
-- begin and how they end. Told after the commit, in order; nothing here can change or delay a session.
--
--   MACP_EXTENSIONS_FILE=examples/site/tickets.lua macp runtime

local log = require("host.log")

local tickets = {} -- of sessions that have not ended

return {
  {
    key = "ticket",
    on_session_start = function(session_id, extensions)
      tickets[session_id] = extensions.ticket
      log.info("ticket.discussed", { ticket = extensions.ticket, session_id = session_id })
    end,
    on_session_terminal = function(session_id, outcome)
      local ticket = tickets[session_id]
      if ticket == nil then return end
      tickets[session_id] = nil
      log.info("ticket.settled", { ticket = ticket, session_id = session_id, outcome = outcome })
    end,
  },
}
