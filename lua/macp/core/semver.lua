-- Semantic versions (semver.org 2.0): reading and ordering.

local M = {}

-- Numeric identifiers are digits without a leading zero.
local function numeric(text)
  if text:find("^%d+$") and (text == "0" or text:sub(1, 1) ~= "0") then return tonumber(text) end
  return nil
end

local function identifiers(text)
  local out = {}
  for part in (text .. "."):gmatch("(.-)%.") do
    if not part:find("^[%w%-]+$") then return nil end
    if part:find("^%d+$") and not numeric(part) then return nil end
    out[#out + 1] = numeric(part) or part
  end
  return out
end

---@param text string
---@return { major: integer, minor: integer, patch: integer, pre: table }|nil
function M.parse(text)
  if type(text) ~= "string" or #text > 128 then return nil end
  local core, build = text:match("^([^+]+)%+(.+)$")
  if build and not build:find("^[%w%.%-]+$") then return nil end
  local numbers, pre_text = (core or text):match("^([%d%.]+)%-(.+)$")
  local major, minor, patch = (numbers or core or text):match("^(%d+)%.(%d+)%.(%d+)$")
  if major == nil then return nil end
  local pre = {}
  if pre_text then
    pre = identifiers(pre_text)
    if pre == nil then return nil end
  end
  local version = { major = numeric(major), minor = numeric(minor), patch = numeric(patch), pre = pre }
  return version.major and version.minor and version.patch and version or nil
end

local function compare_identifiers(left, right)
  if left == right then return 0 end
  if left == nil then return -1 end
  if right == nil then return 1 end
  if type(left) ~= type(right) then return type(left) == "number" and -1 or 1 end
  return left < right and -1 or 1
end

---Orders two parsed versions: -1, 0 or 1.
function M.compare(left, right)
  for _, part in ipairs({ "major", "minor", "patch" }) do
    if left[part] ~= right[part] then return left[part] < right[part] and -1 or 1 end
  end
  if #left.pre == 0 or #right.pre == 0 then
    if #left.pre == #right.pre then return 0 end
    return #left.pre == 0 and 1 or -1
  end
  for i = 1, math.max(#left.pre, #right.pre) do
    local order = compare_identifiers(left.pre[i], right.pre[i])
    if order ~= 0 then return order end
  end
  return 0
end

return M
