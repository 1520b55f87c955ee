-- Catalog: what the registry offers, for lists: folders and what was registered or promoted over the wire.

local descriptors = require("macp.modes.descriptors")

local STANDARD_ORDER = { "macp.mode.decision.v1", "macp.mode.proposal.v1", "macp.mode.task.v1", "macp.mode.handoff.v1",
  "macp.mode.quorum.v1" }
local RANK = {}
for i, id in ipairs(STANDARD_ORDER) do RANK[id] = i end

local M = {}

-- The descriptor a mode is offered with: a promoted folder has the name it was promoted to.
local function offered(registry, id)
  local descriptor = registry:get(id).descriptor
  return descriptor.mode == id and descriptor or descriptors.renamed(descriptor, id)
end

---Every mode once, standard ones in the protocol's order first, then by id.
---@return { id: string, standard: boolean, descriptor: table }[]
function M.entries(registry)
  local out = {}
  for _, id in ipairs(registry.registered:ids()) do
    out[#out + 1] = { id = id, standard = registry.registered:is_standard(id), descriptor = offered(registry, id) }
  end
  table.sort(out, function(a, b)
    local left, right = RANK[a.id] or math.huge, RANK[b.id] or math.huge
    if left ~= right then return left < right end
    return a.id < b.id
  end)
  return out
end

---The descriptors alone, in the same order.
function M.list(registry)
  local out = {}
  for i, entry in ipairs(M.entries(registry)) do out[i] = entry.descriptor end
  return out
end

return M
