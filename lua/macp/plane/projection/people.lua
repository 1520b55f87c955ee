-- Participants and the run's graph: who took part, who waits, who spoke to whom.

local ring = require("macp.plane.projection.ring")

local RANK = { idle = 1, waiting = 2, active = 3, completed = 4, failed = 5 }
local DONE = { completed = true, failed = true, skipped = true }
local TERMINAL_RUN = { completed = true, failed = true, cancelled = true }

local M = { EDGE_CAP = 300 }

local function add_node(state, id, kind, status)
  local node = { id = id, kind = kind, status = status }
  state.nodes[#state.nodes + 1] = node
  state.node_by_id[id] = node
  return node
end

---Makes sure a node exists; its status only rises.
function M.node(state, id, kind, status)
  local node = state.node_by_id[id] or add_node(state, id, kind, status)
  if (RANK[status] or 0) > (RANK[node.status] or 0) then node.status = status end
end

-- One flat index: a table per sender and receiver would weigh more than the edges.
local function edge_key(from, to, kind)
  return from .. "\0" .. to .. "\0" .. kind
end

---One edge per (from, to, kind); seeing it again moves its time. Edges to oneself or to nobody are ignored.
function M.edge(state, from, to, kind, ts)
  if from == to or not from or not to or from == "" or to == "" then return end
  local key = edge_key(from, to, kind)
  local known = state.edge_index[key]
  if known then
    known.ts = ts
    return
  end
  local edge = { from = from, to = to, kind = kind, ts = ts }
  local evicted = state.edges:push(edge)
  if evicted then state.edge_index[edge_key(evicted.from, evicted.to, evicted.kind)] = nil end
  state.edge_index[key] = edge
end

---Rebuilds the edge list and its index from stored edges.
function M.load_edges(state, edges)
  state.edges = ring.new(M.EDGE_CAP, edges)
  for _, edge in ipairs(edges) do state.edge_index[edge_key(edge.from, edge.to, edge.kind)] = edge end
end

---Adds a participant that was not known yet (idle, with its node) and returns the entry.
function M.add(state, id, role)
  local person = state.people[id]
  if person then
    if role and not person.role then
      person.role = role
      state.required_of = nil
    end
    return person
  end
  person = { participantId = id, role = role, status = "idle" }
  state.participants[#state.participants + 1] = person
  state.people[id] = person
  if not state.node_by_id[id] then add_node(state, id, "participant", "idle") end
  return person
end

---Notes activity of a participant. `ts` nil: it was only addressed, it did nothing itself.
function M.touch(state, id, ts, status, summary)
  if type(id) ~= "string" or id == "" then return end
  local person = M.add(state, id)
  if ts then person.latestActivityAt = ts end
  if summary then person.latestSummary = summary end
  if TERMINAL_RUN[state.run.status] and DONE[person.status] then return end
  person.status = status
  M.node(state, id, "participant", status)
end

local function latest_of(participants)
  local latest
  for _, person in ipairs(participants) do
    if not DONE[person.status] and person.latestActivityAt
        and (latest == nil or person.latestActivityAt > latest.latestActivityAt) then
      latest = person
    end
  end
  return latest
end

---Closes everybody's state at the end of the run.
---@param outcome "completed"|"failed"|"cancelled"
function M.sweep(state, outcome)
  local culprit = outcome == "failed" and latest_of(state.participants) or nil
  for _, person in ipairs(state.participants) do
    if not DONE[person.status] then
      if not person.latestActivityAt then
        person.status = "skipped"
      elseif person == culprit then
        person.status = "failed"
      else
        person.status = "completed"
      end
      local node = state.node_by_id[person.participantId]
      if node then node.status = person.status end
    end
  end
end

return M
