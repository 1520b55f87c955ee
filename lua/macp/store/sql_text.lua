-- Splits a migration file into its statements: the extended protocol takes one at a time.
-- Knows quoted strings, quoted names, dollar quotes and comments; nothing else of SQL matters here.

local M = {}

local function fail(text, at, what)
  local line = select(2, text:sub(1, at):gsub("\n", "\n")) + 1
  return nil, string.format("%s starting at line %d has no end", what, line)
end

-- The position after the block comment that starts at `at`; block comments nest.
local function skip_block_comment(text, at)
  local depth, pos = 1, at + 2
  while depth > 0 do
    local open, close = text:find("/*", pos, true), text:find("*/", pos, true)
    if close == nil then return fail(text, at, "a comment") end
    if open and open < close then
      depth, pos = depth + 1, open + 2
    else
      depth, pos = depth - 1, close + 2
    end
  end
  return pos
end

-- The position after the quoted piece or comment that starts at `at`, `at` itself when none does.
local function skip(text, at)
  local char = text:sub(at, at)
  if char == "'" or char == '"' then
    local close = text:find(char, at + 1, true)
    if close == nil then return fail(text, at, "a quoted text") end
    return close + 1
  elseif char == "-" and text:sub(at, at + 1) == "--" then
    return (text:find("\n", at, true) or #text) + 1
  elseif char == "/" and text:sub(at, at + 1) == "/*" then
    return skip_block_comment(text, at)
  elseif char == "$" then
    local tag = text:match("^%$[%a_]*[%w_]*%$", at)
    if tag == nil then return at end
    local close = text:find(tag, at + #tag, true)
    if close == nil then return fail(text, at, "a dollar-quoted text") end
    return close + #tag
  end
  return at
end

local function is_blank(statement)
  local rest = statement:gsub("%-%-[^\n]*", ""):gsub("/%*.-%*/", "")
  return rest:find("%S") == nil
end

---The statements of a file in order, without the semicolons between them.
---@param text string
---@return string[]|nil
---@return string|nil reason a quote or comment does not end
function M.split(text)
  local statements, start, pos = {}, 1, 1
  local function add(statement)
    if not is_blank(statement) then statements[#statements + 1] = statement:match("^%s*(.-)%s*$") end
  end
  while true do
    pos = text:find("[;'\"$/-]", pos)
    if pos == nil then break end
    if text:sub(pos, pos) == ";" then
      add(text:sub(start, pos - 1))
      pos = pos + 1
      start = pos
    else
      local after, reason = skip(text, pos)
      if after == nil then return nil, reason end
      pos = math.max(after, pos + 1)
    end
  end
  add(text:sub(start))
  return statements
end

return M
