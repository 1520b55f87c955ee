-- Broken folders of every kind: whatever an author writes, the answer is a located problem and never an error of the
-- checker itself.

local sys = require("host.sys")

local check = require("macp.modes.check")
local source = require("macp.modes.source")

local ROUNDS = 120
local WORDS = { "nil", "{}", "5", "'x'", "function() end", "true", "{ 1, 2 }", "s", "p", "return", "end", "(", ")", "=",
  ",", "..", "-1", "{ a = 1 }", "[[]]", "0/0", "'macp.mode.x'", "repeat", "#", "'initiator'" }

-- Minimal standard generator, so that a failure can be repeated.
local function generator(seed)
  local value = seed
  return function(limit)
    value = (value * 16807) % 2147483647
    return value % limit + 1
  end
end

local function tokens_of(text)
  local out = {}
  for from, to in text:gmatch("()[%w_\"'%.]+()") do out[#out + 1] = { from, to - 1 } end
  return out
end

-- Removes, replaces, copies or wraps one token.
local function mutate(text, random)
  local tokens = tokens_of(text)
  if #tokens == 0 then return text end
  local token, how = tokens[random(#tokens)], random(4)
  local before, middle, after = text:sub(1, token[1] - 1), text:sub(token[1], token[2]), text:sub(token[2] + 1)
  if how == 1 then return before .. after end
  if how == 2 then return before .. WORDS[random(#WORDS)] .. after end
  if how == 3 then
    local other = tokens[random(#tokens)]
    return before .. text:sub(other[1], other[2]) .. after
  end
  return before .. "(" .. middle .. ")" .. after
end

local function mutated(folder, random)
  local files, names = assert(source.read(folder)), {}
  for name in pairs(files) do names[#names + 1] = name end
  table.sort(names)
  local name = names[random(#names)]
  for _ = 1, random(3) do files[name] = mutate(files[name], random) end
  return files, name
end

describe("a mutated mode folder", function()
  it("never breaks the checker", function()
    local seed = tonumber(sys.env("MACP_SEED") or "20311")
    local random = generator(seed)
    for round = 1, ROUNDS do
      local files, name = mutated("modes/auction", random)
      local ok, outcome = xpcall(check.files, debug.traceback, files, "m/", { sessions = 2, steps = 15, seed = round })
      local where = string.format("seed %d, round %d, %s:\n%s\n", seed, round, name, files[name])
      assert.is_true(ok, where .. tostring(outcome))
      for _, problem in ipairs(outcome.problems) do
        assert.is_nil(problem.text:find("traceback", 1, true), where .. problem.text)
        assert.is_nil(problem.path:find("^inside%."), where .. problem.path)
        assert.is_number(problem.line)
      end
    end
  end)
end)
