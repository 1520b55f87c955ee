-- Read endpoints of handoffs.
local macp = require "macp"

return {
  { "GET /offers/:id/context", summary = "The context of an offer, oldest first, in base64", handler = function(req)
    local s, id = req.state, req.params.id
    if not s.offers[id] then return nil, { "NOT_FOUND", "there is no offer '" .. id .. "'" } end
    return { offer = id, context = macp.array(macp.map(s.contexts[id] or {}, function(own)
      return { content_type = own.content_type, by = own.sender, context = macp.base64(own.context) }
    end)) }
  end },

  { "GET /recent", scope = "mode", summary = "How the latest handoffs ended", handler = function(req)
    local page, out = req.ask("runs.list", { mode = "macp.mode.handoff.v1", status = "completed", limit = 20 }), {}
    for _, run in ipairs(page.data) do
      local view = req.ask("runs.view", { id = run.id })
      if view then out[#out + 1] = { run = run.id, status = view.status, owner = view.owner } end -- nil: deleted meanwhile
    end
    return macp.array(out)
  end },
}
