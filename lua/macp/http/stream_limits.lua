-- How many event streams may be open at once, per caller and per subject. A proxy may keep streams whose readers have
-- left long ago, and nothing tells them from quiet ones: so the oldest one makes room for one more. Constant work each.

local address = require("macp.http.address")

---@class macp.StreamLimits
local Limits = {}
Limits.__index = Limits

local M = {}

---@param opts { per_caller: integer|nil, per_subject: integer|nil } nil: no limit
---@return macp.StreamLimits
function M.new(opts)
  return setmetatable({ groups = {}, caller = opts.per_caller, subject = opts.per_subject }, Limits)
end

-- Groups are kept as long as they have streams: first (the oldest), last and how many.
local function group_of(self, key)
  local group = self.groups[key]
  if group == nil then
    group = { key = key, count = 0, first = nil, last = nil }
    self.groups[key] = group
  end
  return group
end

local function append(group, stream)
  local link = { group = group, stream = stream, before = group.last, after = nil }
  if group.last then group.last.after = link else group.first = link end
  group.last, group.count = link, group.count + 1
  return link
end

local function remove(self, link)
  local group, before, after = link.group, link.before, link.after
  if before then before.after = after else group.first = after end
  if after then after.before = before else group.last = before end
  group.count = group.count - 1
  if group.count == 0 then self.groups[group.key] = nil end
end

local function caller_of(ctx)
  local actor = ctx.actor
  return actor.type == "anonymous" and address.network(ctx.req.peer) or actor.id
end

---Counts a new stream.
---@param stream table
---@param ctx macp.Context
---@param subject string|nil what it is about, within the caller's tenant
---@return table[] crowded streams that have to end for it, each followed by the reason
function Limits:enter(stream, ctx, subject)
  local links, crowded = {}, {}
  local function join(key, most, reason)
    local group = group_of(self, key)
    links[#links + 1] = append(group, stream)
    if group.count > most then
      crowded[#crowded + 1], crowded[#crowded + 2] = group.first.stream, reason
    end
  end
  if self.caller then
    join("caller\0" .. ctx.actor.tenant .. "\0" .. caller_of(ctx), self.caller,
      "a newer stream took the place of this one: its caller has " .. self.caller .. " open")
  end
  if self.subject and subject then
    join("subject\0" .. ctx.actor.tenant .. "\0" .. subject, self.subject,
      "a newer stream took the place of this one: its run has " .. self.subject .. " open")
  end
  stream.places = links
  return crowded
end

---Counts a stream no more. May be called again.
function Limits:leave(stream)
  local links = stream.places
  if links == nil then return end
  stream.places = nil
  for _, link in ipairs(links) do remove(self, link) end
end

return M
