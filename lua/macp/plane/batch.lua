-- A batch: everything that will be written by one commit. It collects statements in order, remembers to which run
-- (and to which received envelope) each belongs, and what is to be published once it is stored.

local ROW_OVERHEAD = 160 -- bytes of a row besides its text, roughly

---@class macp.plane.Batch
---@field count integer events in it
---@field bytes integer
---@field runs table[] entries in the order of their first event
local Batch = {}
Batch.__index = Batch

local M = {}

---A batch that holds nothing.
function M.new()
  return setmetatable({
    ops = {}, op_run = {}, op_ordinal = {}, runs = {}, by_run = {}, count = 0, bytes = 0, raw_count = 0,
    run = nil, ordinal = nil,
  }, Batch)
end

---Makes `run` the owner of the statements that follow.
---@param ordinal integer|nil the envelope they come from
function Batch:own(run, ordinal)
  self.run, self.ordinal = run, ordinal
  local entry = self.by_run[run]
  if entry == nil then
    entry = { run = run, documents = {}, seqs = {}, n = 0, last_seq = run.committed_seq, key_seq = nil, key_raw = false,
      types = {} }
    self.by_run[run] = entry
    self.runs[#self.runs + 1] = entry
  end
  return entry
end

-- Number of parameters of a statement, by its text.
local counts = {}

local function count_of(text)
  local count = counts[text]
  if count == nil then
    count = 0
    for number in text:gmatch("%$(%d+)") do count = math.max(count, tonumber(number)) end
    counts[text] = count
  end
  return count
end

---A statement, in the shape of the host's unit of work; at most 20 parameters, named because a vararg costs more.
function Batch:add(text, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t)
  local ops, count = self.ops, count_of(text)
  local at = #ops + 1
  if count <= 8 then
    ops[at] = { text, count, a, b, c, d, e, f, g, h }
  else
    ops[at] = { text, count, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t }
  end
  self.op_run[at], self.op_ordinal[at] = self.run, self.ordinal or false
end

---Notes a canonical event of `run` for publication.
function Batch:note_event(run, seq, document, event_type)
  local entry = self.by_run[run]
  local n = entry.n + 1
  entry.n, entry.documents[n], entry.seqs[n], entry.types[n] = n, document, seq, event_type
  entry.last_seq, entry.key_seq, entry.key_raw = seq, seq, false
  self.count, self.bytes = self.count + 1, self.bytes + #document + ROW_OVERHEAD
end

---Notes a raw row of `run`.
function Batch:note_raw(run, seq, size)
  local entry = self.by_run[run]
  entry.last_seq, entry.key_seq, entry.key_raw = seq, seq, true
  self.count, self.bytes = self.count + 1, self.bytes + size + ROW_OVERHEAD
  self.raw_count = self.raw_count + 1
end

---Notes that the current run has something for webhooks.
function Batch:announce()
  self.by_run[self.run].announces = true
end

---Takes everything of a run out again.
function Batch:remove(run)
  local ops, op_run, op_ordinal = {}, {}, {}
  for i, op in ipairs(self.ops) do
    if self.op_run[i] ~= run then
      local at = #ops + 1
      ops[at], op_run[at], op_ordinal[at] = op, self.op_run[i], self.op_ordinal[i]
    end
  end
  self.ops, self.op_run, self.op_ordinal = ops, op_run, op_ordinal
  self.by_run[run] = nil
  local runs = {}
  for _, entry in ipairs(self.runs) do
    if entry.run ~= run then runs[#runs + 1] = entry end
  end
  self.runs = runs
end

---What is a run's becomes another's: of the same id, which was made of it.
function Batch:rename(run, heir)
  local entry = self.by_run[run]
  if entry == nil then return end
  entry.run = heir
  self.by_run[run], self.by_run[heir] = nil, entry
  for i = 1, #self.ops do
    if self.op_run[i] == run then self.op_run[i] = heir end
  end
  if self.run == run then self.run = heir end
end

---true when there is nothing to write.
function Batch:is_empty()
  return #self.ops == 0 and #self.runs == 0
end

---Puts the statements into a unit of work of the host.
---@return true|nil
---@return table|nil err a value that no column can hold, told like the server would
function Batch:fill(unit)
  local ops = self.ops
  for i = 1, #ops do
    local op = ops[i]
    local ok, err
    if op[2] == 6 then
      ok, err = unit:add(op[1], op[3], op[4], op[5], op[6], op[7], op[8])
    else
      ok, err = unit:add(op[1], unpack(op, 3, op[2] + 2))
    end
    if not ok then return nil, { code = "PG", sqlstate = "22000", index = i, message = err.message } end
  end
  return true
end

return M
