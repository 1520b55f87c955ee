-- Regular expressions that replace text in linear time: two passes of a deterministic automaton, built while it is used.
-- A pass from the right finds where matches begin, passes from there find the longest one. What overlapping attempts may
-- cost is bounded by a budget in proportion to the text.

local parse = require("macp.core.regex_parse")

local MAX_INSTRUCTIONS = 8000
local MAX_STATES = 2000 -- of one automaton; more are forgotten and built again
local STEPS_PER_BYTE, STEPS_FREE = 16, 20000

local NONE, WORD, OTHER = 0, 1, 2 -- what stands beside a place

local class_of = {}
for byte = 0, 255 do class_of[byte] = parse.WORD[byte] and WORD or OTHER end

---@class macp.Regex
local Regex = {}
Regex.__index = Regex

local M = {}

local function holds(kind, before, after, is_reversed)
  if is_reversed then before, after = after, before end
  if kind == "^" then return before == NONE end
  if kind == "$" then return after == NONE end
  return ((before == WORD) ~= (after == WORD)) == (kind == "b")
end

-- Compiles a tree in front of what follows; a reversed program reads from right to left.
local function emit(program, node, next_pc)
  local function put(instruction)
    if #program >= MAX_INSTRUCTIONS then error({ reason = "the expression is too large" }, 0) end
    program[#program + 1] = instruction
    return #program
  end
  if node.set then return put({ set = node.set, next = next_pc }) end
  if node.assert then return put({ assert = node.assert, next = next_pc }) end
  if node.alt then
    local starts = {}
    for i, child in ipairs(node.alt) do starts[i] = emit(program, child, next_pc) end
    return put({ split = starts })
  end
  if node.rep then
    if node.high == nil then
      local loop = put({ split = { next_pc } })
      program[loop].split[2] = emit(program, node.rep, loop)
      next_pc = loop
    else
      for _ = node.low + 1, node.high do
        next_pc = put({ split = { next_pc, emit(program, node.rep, next_pc) } })
      end
    end
    for _ = 1, node.low do next_pc = emit(program, node.rep, next_pc) end
    return next_pc
  end
  local list = node.cat
  for i = 1, #list do next_pc = emit(program, list[program.is_reversed and i or #list + 1 - i], next_pc) end
  return next_pc
end

local function new_automaton(node, is_reversed)
  local program = { is_reversed = is_reversed, states = {}, count = 0 }
  program[1] = { is_match = true }
  program.start = emit(program, node, 1)
  return program
end

-- The state of having reached these instructions with this beside the place.
local function state_of(program, kernel, before)
  table.sort(kernel)
  local key = before .. ":" .. table.concat(kernel, ",")
  local state = program.states[key]
  if state then return state end
  if program.count >= MAX_STATES then program.states, program.count = {}, 0 end
  state = { kernel = kernel, before = before, closures = {}, is_dead = #kernel == 0 }
  program.states[key], program.count = state, program.count + 1
  return state
end

-- What is reached without reading, when `after` follows: { sets, is_match }.
local function closure_of(program, state, after)
  local found = state.closures[after]
  if found then return found end
  found = { sets = {}, is_match = false }
  local seen, stack = {}, { unpack(state.kernel) }
  while #stack > 0 do
    local pc = table.remove(stack)
    if not seen[pc] then
      seen[pc] = true
      local instruction = program[pc]
      if instruction.is_match then found.is_match = true
      elseif instruction.set then found.sets[#found.sets + 1] = instruction
      elseif instruction.split then
        for _, target in ipairs(instruction.split) do stack[#stack + 1] = target end
      elseif holds(instruction.assert, state.before, after, program.is_reversed) then
        stack[#stack + 1] = instruction.next
      end
    end
  end
  state.closures[after] = found
  return found
end

-- The state after a byte; an unanchored search begins anew at every place.
local function step(program, state, byte, is_unanchored)
  local kernel, seen = {}, {}
  for _, instruction in ipairs(closure_of(program, state, class_of[byte]).sets) do
    if instruction.set[byte] and not seen[instruction.next] then
      seen[instruction.next] = true
      kernel[#kernel + 1] = instruction.next
    end
  end
  if is_unanchored and not seen[program.start] then kernel[#kernel + 1] = program.start end
  local target = state_of(program, kernel, class_of[byte])
  state[byte] = target
  return target
end

---Compiles expressions: what one of them matches is a match.
---@param expressions string[] at least one
---@return macp.Regex|nil
---@return string|nil reason
function M.new(expressions)
  local list = {}
  for i, text in ipairs(expressions) do
    local node, reason = parse.parse(text)
    if node == nil then return nil, string.format("%s: %s", text, reason) end
    list[i] = node
  end
  local node = { alt = list }
  local ok, self = pcall(function()
    return setmetatable({ forward = new_automaton(node, false), backward = new_automaton(node, true) }, Regex)
  end)
  if not ok and type(self) == "table" then return nil, self.reason end
  if not ok then error(self, 0) end
  return self
end

-- Places where a match begins, ascending; nil when there is none.
local function starts_in(self, text)
  local program, found = self.backward, nil
  local state = state_of(program, { program.start }, NONE)
  for at = #text, 1, -1 do
    local byte = text:byte(at)
    if closure_of(program, state, class_of[byte]).is_match then
      found = found or {}
      found[#found + 1] = at + 1
    end
    state = state[byte] or step(program, state, byte, true)
  end
  if closure_of(program, state, NONE).is_match then
    found = found or {}
    found[#found + 1] = 1
  end
  return found
end

-- The last place of the longest match that begins here, and the steps that are left.
local function longest(self, text, from, steps)
  local program = self.forward
  local state = state_of(program, { program.start }, from > 1 and class_of[text:byte(from - 1)] or NONE)
  local last
  for at = from, #text + 1 do
    local byte = text:byte(at)
    if closure_of(program, state, byte and class_of[byte] or NONE).is_match then last = at - 1 end
    steps = steps - 1
    if byte == nil or steps < 0 then break end
    state = state[byte] or step(program, state, byte, false)
    if state.is_dead then break end
  end
  return last, steps
end

---The text with every match replaced, leftmost first, each as long as possible.
---@param text string
---@param replacement string
---@return string|nil nil: to find the matches would take too long
---@return boolean changed
function Regex:replace(text, replacement)
  local starts = starts_in(self, text)
  if starts == nil then return text, false end
  local out, kept, steps = {}, 1, STEPS_FREE + STEPS_PER_BYTE * #text
  for i = #starts, 1, -1 do
    local from = starts[i]
    if from >= kept then
      local last
      last, steps = longest(self, text, from, steps)
      if steps < 0 then return nil, true end
      if last and last >= from then
        out[#out + 1] = text:sub(kept, from - 1)
        out[#out + 1] = replacement
        kept = last + 1
      end
    end
  end
  if kept == 1 then return text, false end
  out[#out + 1] = text:sub(kept)
  return table.concat(out), true
end

return M
