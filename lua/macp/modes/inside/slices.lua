-- Slices: the bytes of sessions.encode, made in many small steps so that a large state does not hold up everybody.
-- The result is the same, byte for byte. The caller sees to it that nothing changes the state between two steps.
--
-- A container with many values becomes a frame on a stack; everything small is encoded in one go. The keys of a large
-- map are sorted in runs, which are merged while they are used: no step grows with the size of the state.

local native = native
local sessions = require("macp.modes.inside.sessions")

local SMALL = 128      -- values that are encoded in one go
local STEP_VALUES = 1500
local VALUE_BYTES = 1024 -- of a string that are work like one more value
local STEP_BYTES = 262144 -- handed out at a time, unless one string is longer
local RUN_KEYS = 1024
local MAX_DEPTH = 64
local ARRAY_TAG = "\216\41"

local floor, char = math.floor, string.char

local M = {}

local job -- { key, out, first (in out, not handed out yet), frames }

-- A CBOR head: major type and number.
local function head(major, n)
  local type_bits = major * 32
  if n < 24 then return char(type_bits + n) end
  if n < 256 then return char(type_bits + 24, n) end
  if n < 65536 then return char(type_bits + 25, floor(n / 256), n % 256) end
  return char(type_bits + 26, floor(n / 16777216), floor(n / 65536) % 256, floor(n / 256) % 256, n % 256)
end

-- A value in one go, exactly as the native encoder has it.
local function whole(value)
  local bytes, problem = native.cbor_encode(value, "checkpoint")
  if bytes == nil then error((tostring(problem):gsub("checkpoint%.", "")), 0) end
  return bytes
end

-- Values in a tree, counted up to a limit; a long string counts as many.
local function weigh(value, limit)
  if type(value) == "string" then return 1 + floor(#value / VALUE_BYTES) end
  local n = 1
  if type(value) ~= "table" then return n end
  for _, item in next, value do
    n = n + weigh(item, limit - n)
    if n >= limit then return n end
  end
  return n
end

-- Sorts by length first: the length goes in front of the key.
local function decorated(key)
  local n = #key
  return char(floor(n / 16777216), floor(n / 65536) % 256, floor(n / 256) % 256, n % 256) .. key
end

local function end_run(frame)
  if frame.pending == 0 then return end
  frame.runs[#frame.runs + 1] = { keys = native.sorted_keys(frame.run), at = 1 }
  frame.run, frame.pending = {}, 0
end

-- Puts a run where it belongs in the heap of runs, whose first has the smallest key.
local function sink(runs, i, n)
  local run = runs[i]
  local key = run.keys[run.at]
  while true do
    local child = i * 2
    if child > n then break end
    local left = runs[child]
    if child < n and runs[child + 1].keys[runs[child + 1].at] < left.keys[left.at] then
      child = child + 1
      left = runs[child]
    end
    if left.keys[left.at] >= key then break end
    runs[i] = left
    i = child
  end
  runs[i] = run
end

local phases = {}

-- Walks the keys of a table, a slice at a time, to learn what kind of container it is.
function phases.count(frame, budget)
  local t, key = frame.table, frame.key
  while budget > 0 do
    key = next(t, key)
    if key == nil then
      if frame.numbers > 0 and frame.names > 0 then whole(t) end -- raises with the reason
      if frame.numbers == #t and frame.names == 0 then
        job.out[#job.out + 1] = (native.is_array(t) and ARRAY_TAG or "") .. head(4, frame.numbers)
        frame.phase, frame.i = "items", 0
      elseif frame.names > 0 then
        end_run(frame)
        local runs = frame.runs
        for i = floor(#runs / 2), 1, -1 do sink(runs, i, #runs) end
        job.out[#job.out + 1] = head(5, frame.names)
        frame.phase = "members"
      else
        whole(t) -- raises with the reason
        error("the table has no order", 0)
      end
      return budget
    end
    if type(key) == "number" then
      frame.numbers = frame.numbers + 1
    elseif type(key) == "string" then
      frame.names = frame.names + 1
      frame.run[decorated(key)] = true
      frame.pending = frame.pending + 1
      if frame.pending >= RUN_KEYS then end_run(frame) end
    else
      whole(t) -- raises with the reason
    end
    budget = budget - 1
  end
  frame.key = key
  return budget
end

local function push(value)
  local frames = job.frames
  if #frames >= MAX_DEPTH then error("the state is nested too deeply", 0) end
  frames[#frames + 1] = { table = value, phase = "count", numbers = 0, names = 0, run = {}, pending = 0, runs = {} }
end

-- Encodes a value or, when it is large, begins with it. Returns what is left of the budget, and whether it began.
local function emit(value, budget)
  local weight = weigh(value, SMALL)
  if weight < SMALL or type(value) ~= "table" then
    job.out[#job.out + 1] = whole(value)
    return budget - weight, false
  end
  push(value)
  return budget - weight, true
end

function phases.items(frame, budget)
  local t, n = frame.table, frame.numbers
  while budget > 0 do
    local i = frame.i + 1
    if i > n then
      job.frames[#job.frames] = nil
      return budget
    end
    frame.i = i
    local began
    budget, began = emit(t[i], budget)
    if began then return budget end
  end
  return budget
end

local function next_key(runs)
  local run = runs[1]
  if run == nil then return nil end
  local key = run.keys[run.at]:sub(5)
  run.at = run.at + 1
  local n = #runs
  if run.keys[run.at] == nil then
    runs[1] = runs[n]
    runs[n] = nil
    n = n - 1
  end
  if n > 0 then sink(runs, 1, n) end
  return key
end

function phases.members(frame, budget)
  local t = frame.table
  while budget > 0 do
    local key = next_key(frame.runs)
    if key == nil then
      job.frames[#job.frames] = nil
      return budget
    end
    job.out[#job.out + 1] = whole(key)
    local began
    budget, began = emit(t[key], budget - 1)
    if began then return budget end
  end
  return budget
end

---Begins with the state of a session; an unfinished one of another session is given up.
function M.begin(key)
  local record = sessions.checkpoint(key)
  job = { key = key, out = {}, first = 1, frames = {} }
  push(record)
  return true
end

-- The bytes to hand out now: as many pieces as fit, and at least one.
local function take()
  local out, first = job.out, job.first
  if out[first] == nil then return "" end
  local last, total = first, #out[first]
  while out[last + 1] and total + #out[last + 1] <= STEP_BYTES do
    last = last + 1
    total = total + #out[last]
  end
  local bytes = first == last and out[first] or table.concat(out, "", first, last)
  job.first = last + 1
  if out[job.first] == nil then job.out, job.first = {}, 1 end
  return bytes
end

---The next bytes, and whether they are the last ones; nil when there is nothing begun for this session.
function M.step(key)
  if job == nil or job.key ~= key then return nil end
  local budget, frames = STEP_VALUES, job.frames
  if job.out[job.first] == nil then
    while budget > 0 and #frames > 0 do
      local frame = frames[#frames]
      budget = phases[frame.phase](frame, budget - 1)
    end
  end
  local bytes = take()
  local is_done = #frames == 0 and job.out[job.first] == nil
  if is_done then job = nil end
  return bytes, is_done
end

---Forgets an unfinished one.
function M.stop(key)
  if job and job.key == key then job = nil end
end

return M
