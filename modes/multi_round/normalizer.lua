-- A contribution updates what the session is about; its label is the value itself.
local short = require "lib.short"

return {
  events = {
    Contribute = { "proposal.updated", label = function(p) return short(p.value) end },
  },
}
