-- What specs look at in lists of canonical events.

local M = {}

local function each(events, member)
  local out = {}
  for i, event in ipairs(events) do out[i] = event[member] end
  return out
end

---The numbers of events, in their order.
function M.seqs(events) return each(events, "seq") end

---The types of events, in their order.
function M.types(events) return each(events, "type") end

---The events of one type.
function M.of_type(events, name)
  local out = {}
  for _, event in ipairs(events) do
    if event.type == name then out[#out + 1] = event end
  end
  return out
end

return M
