-- Policy rules: what a rules object must satisfy to be registered (RFC-MACP-0012). Problems refuse it, warnings tell of
-- rules that do not do what their author may think. Both name the path inside the descriptor: rules.voting.threshold.
-- Takes at most MAX_PROBLEMS problems: what an attacker sends costs no more than reading it.

local json = require("macp.core.json")
local policy = require("macp.modes.inside.policy")
local suggest = require("macp.core.suggest")

local lookup = policy.lookup

-- Keys of other standard modes that policy builders emit with their default; tolerated when they change nothing.
local FOREIGN = { ["commitment.require_vote_quorum"] = true, ["commitment.allow_decline_over_approval"] = true }
local MAX_PROBLEMS = 32
local SHOWN_BYTES = 48
local MAX_PATH_BYTES = 128

local TYPE_TEXT = { boolean = "true or false", integer = "a whole number", number = "a number", string = "a string",
  strings = "an array of strings", map = "an object of numbers" }

local M = {}

local function quoted(text) return json.quoted(text, SHOWN_BYTES) end

-- Where something is; names come from the author of the policy and may be anything.
local function at(path)
  if path == "" then return "rules" end
  return "rules." .. ((#path > MAX_PATH_BYTES or path:find("%c")) and quoted(path) or path)
end

-- A value as its author wrote it, shortened.
local function shown(value)
  if value == json.null then return "null" end
  if type(value) == "string" then return quoted(value) end
  if type(value) == "number" then return string.format("%.14g", value) end
  if type(value) == "table" then return json.is_array(value) and "an array" or "an object" end
  return tostring(value)
end

local function hint(word, known)
  local found = suggest.closest(word, known)
  return found and " (did you mean " .. quoted(found) .. "?)" or ""
end

local function range_text(bounds)
  local low = bounds.over and string.format("above %.14g", bounds.over)
  if bounds.min and bounds.max then return string.format(" between %.14g and %.14g", bounds.min, bounds.max) end
  if low and bounds.max then return string.format(" %s and at most %.14g", low, bounds.max) end
  if low then return " " .. low end
  if bounds.min then return string.format(" of at least %.14g", bounds.min) end
  if bounds.max then return string.format(" of at most %.14g", bounds.max) end
  return ""
end

local function in_range(bounds, value)
  return not (bounds.min and value < bounds.min or bounds.over and value <= bounds.over
    or bounds.max and value > bounds.max)
end

local function is_number(value, kind)
  return type(value) == "number" and value == value and value < math.huge and value > -math.huge
    and (kind ~= "integer" or value % 1 == 0)
end

-- What a rule of one value takes, in words.
local function expected(rule)
  if rule.one_of then return "one of " .. table.concat(rule.one_of, ", ") end
  local text = TYPE_TEXT[rule.type]
  if rule.type == "integer" or rule.type == "number" or rule.type == "map" then return text .. range_text(rule) end
  if not rule.nonempty then return text end
  return text .. (rule.type == "strings" and " with at least one entry" or " that is not empty")
end

local function scalar_problem(rule, value)
  local kind, fine = rule.type
  if kind == "boolean" then
    fine = type(value) == "boolean"
  elseif kind == "string" then
    fine = type(value) == "string" and not (rule.nonempty and value == "")
    for _, choice in ipairs(fine and rule.one_of or {}) do
      if choice == value then return nil end
    end
    if fine and rule.one_of then
      return "expected " .. expected(rule) .. ", got " .. quoted(value) .. hint(value, rule.one_of)
    end
  else
    fine = is_number(value, kind) and in_range(rule, value)
    for _, choice in ipairs(fine and rule.one_of or {}) do
      if choice == value then return nil end
    end
    fine = fine and not rule.one_of
  end
  return not fine and "expected " .. expected(rule) .. ", got " .. shown(value) or nil
end

-- Calls found(suffix of the path, text) for everything that is wrong with a value.
local function each_problem(rule, value, found)
  if rule.type == "strings" then
    -- Lists of rules written in Lua carry no mark; what was decoded from `{}` is an object and not a list.
    if type(value) ~= "table" or not (json.is_array(value) or #value > 0 or next(value) == nil) then
      return found("", "expected " .. expected(rule) .. ", got " .. shown(value))
    end
    if rule.nonempty and #value == 0 then return found("", "expected " .. expected(rule) .. ", got none") end
    for i, item in ipairs(value) do
      if type(item) ~= "string" or not item:find("%S") then
        found("[" .. i .. "]", "expected a string that is not blank, got " .. shown(item))
      end
    end
  elseif rule.type == "map" then
    if type(value) ~= "table" or #value > 0 or json.is_array(value) then
      return found("", "expected " .. expected(rule) .. ", got " .. shown(value))
    end
    if rule.nonempty and next(value) == nil then return found("", "expected at least one entry, got none") end
    local names = {}
    for name in pairs(value) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      if not is_number(value[name]) or not in_range(rule, value[name]) then
        found("[" .. quoted(name) .. "]", "expected a number" .. range_text(rule) .. ", got " .. shown(value[name]))
      end
    end
  else
    local text = scalar_problem(rule, value)
    if text then found("", text) end
  end
end

---Whether a default fits its own rule: nil, or the problem. Used when a mode is loaded.
function M.fits(rule, value)
  if rule.nonempty and type(value) == "table" and next(value) == nil then return nil end
  local problem
  each_problem(rule, value, function(suffix, text)
    problem = problem or (suffix == "" and text or suffix .. ": " .. text)
  end)
  return problem
end

local Check = {}
Check.__index = Check

function Check:problem(path, text)
  self.count = self.count + 1
  if self.count <= MAX_PROBLEMS then self.problems[self.count] = { rule = at(path), text = text } end
end

function Check:warn(path, text)
  if #self.warnings < MAX_PROBLEMS then self.warnings[#self.warnings + 1] = { rule = at(path), text = text } end
end

local function check_foreign(check, path, value)
  if value == false and not check.strict then
    check:warn(path, "belongs to another mode and has no effect here")
  elseif check.strict then
    check:problem(path, "belongs to another mode")
  else
    check:problem(path, "belongs to another mode; only its default false is tolerated here")
  end
end

-- A key that is no declared rule and no group: legal only where the mode declares nothing, or when another mode of a
-- policy for all of them declares it.
local function check_unknown(check, prefix, key, path, value)
  local elsewhere = check.elsewhere
  if elsewhere and elsewhere.paths[path] and not key:find(".", 1, true) then return end
  if FOREIGN[path] and prefix == "commitment" then return check_foreign(check, path, value) end
  if check.compiled.open and prefix == "" then return end
  local known = elsewhere and elsewhere.children[prefix] or check.compiled.groups[prefix] or {}
  local text = "unknown rule"
  if check.count < MAX_PROBLEMS then text = text .. hint(key, known) end
  check:problem(path, text)
end

-- Closed world: every key is a declared rule, a group of rules or an annotation. A dot inside a key makes no path.
local function check_keys(check, tree, prefix)
  local compiled, names = check.compiled, {}
  for key in pairs(tree) do names[#names + 1] = tostring(key) end
  table.sort(names)
  for _, key in ipairs(names) do
    local path = prefix == "" and key or prefix .. "." .. key
    local value, has_dot = tree[key], key:find(".", 1, true)
    if key:find("^[_$]") then
      local plain = prefix == "" and key:sub(2) or prefix .. "." .. key:sub(2)
      if compiled.by_path[plain] or compiled.groups[plain] then
        check:warn(path, "is an annotation and has no effect, although its name resembles a rule")
      end
    elseif compiled.groups[path] and not has_dot then
      if type(value) ~= "table" or #value > 0 or json.is_array(value) then
        check:problem(path, "expected an object, got " .. shown(value))
      else
        check_keys(check, value, path)
      end
    elseif has_dot or not compiled.by_path[path] then
      check_unknown(check, prefix, key, path, value)
    end
  end
end

local function while_text(condition)
  return string.format(" while %s is %s", at(condition[1]), shown(condition[2]))
end

local function holds(condition, resolved) return lookup(resolved, condition[1]) == condition[2] end

local function check_cases(check, rule, value, resolved)
  for _, case in ipairs(rule.cases or {}) do
    if holds(case, resolved) then
      if value == nil and case.required then
        check:problem(rule.path, "is required" .. while_text(case))
      elseif value ~= nil and type(value) == "number" and not in_range(case, value) then
        check:problem(rule.path, string.format("expected a number%s%s, got %s", range_text(case), while_text(case),
          shown(value)))
      end
    end
  end
end

-- What is legal and yet not what it seems.
local function check_effect(check, rule, value, resolved)
  if rule.since and check.version < rule.since then
    check:warn(rule.path, "belongs to schema version " .. rule.since)
  end
  local caution = rule.caution
  if caution and check.version < caution.below and value ~= caution.except
    and not (caution.unless and holds(caution.unless, resolved)) then
    check:warn(rule.path, caution[1])
  end
  local other = rule.inert_without
  if other and not holds(other, resolved) then
    check:warn(rule.path, string.format("has no effect unless %s is %s", at(other[1]), shown(other[2])))
  end
end

local function check_rule(check, rule, tree, resolved)
  local value = lookup(tree, rule.path)
  if value ~= nil and value == rule.unset and not check.strict then
    check:warn(rule.path, shown(value) .. " is read as if the rule were absent; leave it out")
    value = nil
  end
  if value ~= nil and rule.alias and rule.alias[value] then
    check:warn(rule.path, string.format("%s is an old name of %s", shown(value), shown(rule.alias[value])))
    value = rule.alias[value]
  end
  local is_needed = rule.requires and holds(rule.requires, resolved)
  if value == nil then
    if is_needed then check:problem(rule.path, "is required" .. while_text(rule.requires)) end
    return check_cases(check, rule, nil, resolved)
  end
  -- An empty list is a written-out default where nothing needs it; an empty map is never one.
  local is_empty_list = rule.type == "strings" and type(value) == "table" and next(value) == nil
  if rule.requires and not is_needed and is_empty_list then return end
  local before = check.count
  each_problem(rule, value, function(suffix, text) check:problem(rule.path .. suffix, text) end)
  if check.count > before then return end
  check_cases(check, rule, value, resolved)
  check_effect(check, rule, value, resolved)
end

---Validates a rules object.
---@param compiled table of policy.compile
---@param tree table decoded rules
---@param version integer schema version
---@param opts { elsewhere: { paths: table, children: table }|nil, strict: boolean|nil }|nil elsewhere: what other
---  modes declare, for a policy that binds to all of them; strict: what builders emit needlessly is not tolerated
---@return table[] problems { rule, text }, table[] warnings
function M.check(compiled, tree, version, opts)
  local check = setmetatable({ compiled = compiled, version = version, problems = {}, warnings = {}, count = 0,
    elsewhere = opts and opts.elsewhere, strict = opts and opts.strict }, Check)
  if type(version) ~= "number" or version < 1 or version > policy.MAX_VERSION or version % 1 ~= 0 then
    check.count, check.version = 1, policy.MAX_VERSION
    check.problems[1] = { rule = "schema_version",
      text = string.format("expected 1 to %d, got %s", policy.MAX_VERSION, shown(version)) }
  end
  if type(tree) ~= "table" or #tree > 0 or json.is_array(tree) then
    check:problem("", "expected an object, got " .. shown(tree))
    return check.problems, check.warnings
  end
  check_keys(check, tree, "")
  local resolved = policy.resolve(compiled, tree)
  for _, rule in ipairs(compiled.list) do check_rule(check, rule, tree, resolved) end
  if lookup(resolved, "commitment.authority") == "any_participant" then
    check:warn("commitment.authority", '"any_participant" also lets every participant cancel the session')
  end
  if check.count > MAX_PROBLEMS then
    check.problems[MAX_PROBLEMS + 1] = { rule = "rules",
      text = string.format("%d more problems", check.count - MAX_PROBLEMS) }
  end
  return check.problems, check.warnings
end

return M
