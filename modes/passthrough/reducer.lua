-- What can be said about messages that nobody but the participants understands: how many, and which was the last.
local macp = require "macp"

local MAX_SHOWN_BYTES = 1024

return {
  render = function(s)
    local view = { messages = s.count, committed = s.committed }
    if s.count > 0 then
      view.last = { message_type = s.message_type, sender = s.sender, bytes = #s.payload,
        payload_base64 = #s.payload <= MAX_SHOWN_BYTES and macp.base64(s.payload) or nil }
    end
    return view
  end,

  summary = function(s)
    if s.committed then return s.committed.action end
    return string.format("%d messages", s.count)
  end,
}
