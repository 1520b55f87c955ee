-- What a module reads of another one exists there: `other.NAME` of a name that is gone is nil, and nobody tells.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Code without comments and strings.
local function bare(text)
  text = text:gsub("%-%-%[(=*)%[.-%]%1%]", ""):gsub("%-%-[^\n]*", "")
  return (text:gsub('\\.', ""):gsub('"[^"\n]*"', '""'):gsub("'[^'\n]*'", "''"))
end

-- Fields of required modules that a text reads: list of { module, field }.
local function reads(text)
  local found, code = {}, "\n" .. bare(text)
  for name, module in text:gmatch('\n?local ([%w_]+) = require%("(macp%.[%w_.]+)"%)') do
    -- Another thing of this name, somewhere: nothing can be said.
    local _, times = code:gsub("[%s,(]" .. name .. "[%s]*[,=)]", "")
    if times <= 1 then
      for field in code:gmatch("[^%w_.:]" .. name .. "%.([%w_]+)") do found[#found + 1] = { module, field } end
    end
  end
  return found
end

-- Of files: the reads of names that are not there.
local function missing(sources, load)
  local out = {}
  for path, text in pairs(sources) do
    for _, use in ipairs(reads(text)) do
      local module = load(use[1])
      if type(module) == "table" and module[use[2]] == nil then
        out[#out + 1] = string.format("%s: %s of %s", path, use[2], use[1])
      end
    end
  end
  table.sort(out)
  return out
end

describe("names of other modules", function()
  it("are there", function()
    local sources = {}
    for _, path in ipairs(require("pl.dir").getallfiles("lua/macp")) do
      if path:find("%.lua$") and not path:find("/inside/") and not path:find("/stubs/") then
        sources[path] = read(path)
      end
    end
    assert.same({}, missing(sources, require))
  end)

  it("are missed when they are not", function()
    local load = function() return { LIMIT = 1 } end
    assert.same({ "a: SIZE of macp.x" }, missing({
      a = 'local x = require("macp.x")\nreturn x.LIMIT + x.SIZE, "x.GONE" -- x.GONE',
      b = 'local x = require("macp.x")\nlocal function f(x) return x.GONE end',
    }, load))
  end)
end)
