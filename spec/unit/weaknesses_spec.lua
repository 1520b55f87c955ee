-- Each of the known weaknesses of other runtimes has a test that carries its number in front of its name.

local fs = require("host.fs")

local LAST = 40
local TITLE = '"(W%d+[W%d ]*):' -- or the beginning of one, in a table of cases

-- Adds the numbers of a file's tests.
local function note(found, text, pattern)
  for numbers in text:gmatch(pattern) do
    for number in numbers:gmatch("%d+") do found[tonumber(number)] = true end
  end
end

local function walk(dir, found)
  for _, entry in ipairs(assert(fs.list(dir))) do
    local path = dir .. "/" .. entry.name
    if entry.type == "dir" then walk(path, found)
    elseif path:find("_spec%.lua$") then note(found, tostring(assert(fs.read(path))), TITLE)
    elseif path:find("_test%.c$") then note(found, tostring(assert(fs.read(path))), "TEST%((W%d+)_") end
  end
end

describe("the weaknesses W1 to W" .. LAST, function()
  it("each have a test by number", function()
    local found, missing = {}, {}
    walk("spec", found)
    for number = 1, LAST do
      if not found[number] then missing[#missing + 1] = "W" .. number end
    end
    assert.same({}, missing)
  end)
end)
