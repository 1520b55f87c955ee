-- Remembered states of the past: whoever asks for a state at one number asks for others, too. What a fold passes on its
-- way is kept in steps, so that the next question is answered from the step below it. Bounded in bytes: runs that nobody
-- asks about go first, then every second step of the run that is left.

local lru = require("macp.core.lru")

local RUNS_MAX = 256
local OVERHEAD = 256 -- bytes of a step besides its texts, roughly
local SHARE = 8 -- one step may be this part of everything at most
local STEP = { host = 96, mode = 300 } -- numbers between two steps, until there are too many
local CREDIT_PER_NUMBER = 400 -- bytes of modes' states that may be encoded for each number that was folded anyway

---@class macp.plane.PastRun what is remembered of one run, as one reading of its mode sees it
---@field start table|nil arguments that started the mode's session
---@field credit integer bytes that may be encoded: making steps takes a part of the time of a question at most
local PastRun = {}
PastRun.__index = PastRun

---@class macp.plane.PastStates
---@field bytes integer
local PastStates = {}
PastStates.__index = PastStates

local M = {}

---@param max_bytes integer 0: nothing is remembered
---@return macp.plane.PastStates
function M.new(max_bytes)
  local self = setmetatable({ max_bytes = max_bytes, bytes = 0 }, PastStates)
  self.runs = lru.new(RUNS_MAX, function(_, run) self:release(run) end)
  return self
end

---A run left: its bytes are free.
function PastStates:release(run)
  self.bytes = self.bytes - run.bytes
  run.bytes, run.gone = 0, true
end

---What is remembered of a run.
---@param run_id string
---@param reading string names rules and presentation of the mode that reads it: other ones make other states
---@return macp.plane.PastRun
function PastStates:of(run_id, reading)
  local run = self.runs:get(run_id)
  if run and run.reading == reading then return run end
  if run then
    self.runs:remove(run_id)
    self:release(run)
  end
  run = setmetatable({ states = self, reading = reading, bytes = 0, credit = 0, mode_bytes = 0,
    host = { step = STEP.host, bytes = 0 },
    mode = { step = STEP.mode, bytes = 0 } }, PastRun)
  self.runs:set(run_id, run)
  return run
end

-- Position of the last item at or before seq, 0 when there is none.
local function position(list, seq)
  local low, high = 0, #list
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if list[middle].seq <= seq then low = middle else high = middle - 1 end
  end
  return low
end

---The last step at or before seq, nil when there is none.
---@param kind "host"|"mode"
---@return table|nil
function PastRun:nearest(kind, seq)
  local list = self[kind]
  return list[position(list, seq)]
end

---true when seq is far enough from the steps below and above it to be one itself.
function PastRun:wants(kind, seq)
  if self.gone or self.states.max_bytes == 0 then return false end
  local list = self[kind]
  local at = position(list, seq)
  local below, above = list[at], list[at + 1]
  return (below == nil or seq - below.seq >= list.step) and (above == nil or above.seq - seq >= list.step)
end

---So many numbers were folded; true when that pays for remembering another state of the mode. No more than one is saved
---for, so that no question pays for many.
function PastRun:earn(numbers)
  self.credit = math.min(self.mode_bytes, self.credit + numbers * CREDIT_PER_NUMBER)
  return self.credit >= self.mode_bytes
end

---A state of the mode was encoded.
function PastRun:spend(bytes)
  self.credit, self.mode_bytes = 0, bytes
end

-- Drops every second step of the list that holds more. What is left is twice as far apart.
local function thin(run)
  local list = run.host.bytes > run.mode.bytes and run.host or run.mode
  local kept, bytes = 0, 0
  for i = 1, #list do
    local item = list[i]
    list[i] = nil
    if i % 2 == 0 then
      kept = kept + 1
      list[kept], bytes = item, bytes + item.size
    end
  end
  local freed = list.bytes - bytes
  list.bytes, list.step = bytes, list.step * 2
  run.bytes = run.bytes - freed
  run.states.bytes = run.states.bytes - freed
end

-- Makes room; the run that is being asked about is the last to lose anything.
local function shrink(self, run)
  while self.bytes > self.max_bytes do
    local key, oldest = self.runs:oldest()
    if oldest ~= run then
      self.runs:remove(key)
      self:release(oldest)
    else
      thin(run)
    end
  end
end

---Remembers a state that is there anyway, however near the others are.
---@param kind "host"|"mode"
---@param state table with seq
---@param size integer bytes of its texts
function PastRun:keep(kind, state, size)
  local list = self[kind]
  local at = position(list, state.seq)
  if self.states.max_bytes == 0 or (list[at] and list[at].seq == state.seq) then return end
  self:add(kind, state, size)
end

---Remembers a step.
---@param kind "host"|"mode"
---@param state table with seq
---@param size integer bytes of its texts
function PastRun:add(kind, state, size)
  local states = self.states
  size = size + OVERHEAD
  if self.gone or size > states.max_bytes / SHARE then return end
  local list = self[kind]
  state.size = size
  table.insert(list, position(list, state.seq) + 1, state)
  list.bytes, self.bytes, states.bytes = list.bytes + size, self.bytes + size, states.bytes + size
  shrink(states, self)
end

return M
