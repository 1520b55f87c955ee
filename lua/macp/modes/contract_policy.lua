-- Contract of `policy`: rule paths, their domains, defaults inside the domain, no clash with the common group.

local checker = require("macp.modes.checker")
local policy_rules = require("macp.modes.policy_rules")

local join = checker.join

local KEYS = { "type", "default", "min", "max", "over", "one_of", "nonempty", "alias", "unset", "requires",
  "cases", "inert_without", "since", "caution", "doc" }
local TYPES = { "boolean", "integer", "number", "string", "strings", "map" }
local CASE_KEYS = { 1, 2, "min", "max", "over", "required" }
-- What a mode may add to the group that the kernel owns.
local COMMITMENT = { ["commitment.require_vote_quorum"] = true, ["commitment.allow_decline_over_approval"] = true }

local M = {}

local function check_condition(c, spec, path, key)
  local value = c:get(spec, path, key, "table")
  if value and (not checker.is_kind(value[1], "string") or value[2] == nil) then
    c:problem(join(path, key), "must be { rule path, value }", "policy.condition")
    return nil
  end
  return value
end

local function check_cases(c, spec, path)
  local list = c:get(spec, path, "cases", "table")
  for index, case in ipairs(list or {}) do
    local at = join(join(path, "cases"), index)
    if not checker.is_kind(case, "table") or not checker.is_kind(case[1], "string") or case[2] == nil then
      c:problem(at, "must be { rule path, value, min =, max =, over =, required = }", "policy.condition")
    else
      c:keys(case, at, CASE_KEYS)
    end
  end
  return list
end

local function check_caution(c, spec, path)
  local value = c:get(spec, path, "caution", "table")
  if value == nil then return nil end
  local at = join(path, "caution")
  c:keys(value, at, { 1, "below", "except", "unless" })
  local unless = value.unless
  if not checker.is_kind(value[1], "string") or not checker.is_kind(value.below, "integer")
    or unless ~= nil and not (checker.is_kind(unless, "table") and checker.is_kind(unless[1], "string")) then
    c:problem(at, "must be { text, below = version, except = value, unless = { rule path, value } }; "
      .. "except and unless are optional", "policy.condition")
    return nil
  end
  return value
end

-- Which keys of the domain mean something for which type.
local DOMAIN = {
  min = { integer = true, number = true, map = true }, max = { integer = true, number = true, map = true },
  over = { integer = true, number = true, map = true }, one_of = { integer = true, number = true, string = true },
  nonempty = { string = true, strings = true, map = true },
}

-- A domain that the type knows nothing of, or that no value is in.
local function check_domain(c, rule, path)
  for _, key in ipairs({ "min", "max", "over", "one_of", "nonempty" }) do
    if rule[key] ~= nil and not DOMAIN[key][rule.type] then
      c:problem(join(path, key), "does not apply to the type '" .. rule.type .. "'", "policy.domain")
    end
  end
  if rule.max and (rule.min and rule.min > rule.max or rule.over and rule.over >= rule.max) then
    c:problem(join(path, "max"), "leaves no value between the bounds", "policy.domain")
  end
  if rule.one_of == nil then return end
  c:array(rule.one_of, join(path, "one_of"), "one_of is an array without holes", "policy.domain")
  if #rule.one_of == 0 then c:problem(join(path, "one_of"), "names no value", "policy.domain") end
  for index, value in ipairs(rule.one_of) do
    if not checker.is_kind(value, rule.type) then
      c:problem(join(join(path, "one_of"), index), "must be of the type '" .. rule.type .. "', not "
        .. checker.describe(value), "policy.domain")
    end
  end
end

local function check_default(c, rule, path)
  if rule.default == nil then return end
  local text = policy_rules.fits(rule, rule.default)
  if text then c:problem(join(path, "default"), text, "policy.default") end
end

-- Old names of values; each leads to a value that the rule takes.
local function check_alias(c, spec, rule, path)
  local aliases = c:get(spec, path, "alias", "table")
  for name, value in pairs(aliases or {}) do
    local text = type(name) ~= "string" and "old names are strings" or policy_rules.fits(rule, value)
    if text then c:problem(join(join(path, "alias"), tostring(name)), text, "policy.alias") end
  end
  return aliases
end

local function check_rule(c, name, spec, path)
  if not name:find("^[%l][%w_]*%.[%w_%.]*[%w_]$") then
    c:problem(path, "a rule path is '<group>.<name>'", "policy.path")
  end
  if name:find("^commitment%.") and not COMMITMENT[name] then
    c:problem(path, "the group 'commitment' belongs to the kernel", "policy.commitment")
  end
  if not checker.is_kind(spec, "table") then
    c:problem(path, "must be a table { type = ... }", "type")
    return nil
  end
  c:keys(spec, path, KEYS)
  local rule = { path = name, type = c:choice(spec, path, "type", TYPES, true), default = spec.default,
    min = c:get(spec, path, "min", "number"), max = c:get(spec, path, "max", "number"),
    over = c:get(spec, path, "over", "number"), one_of = c:get(spec, path, "one_of", "table"),
    nonempty = c:get(spec, path, "nonempty", "boolean"), requires = check_condition(c, spec, path, "requires"),
    inert_without = check_condition(c, spec, path, "inert_without"), cases = check_cases(c, spec, path),
    since = c:get(spec, path, "since", "integer"), caution = check_caution(c, spec, path), doc = c:get(spec, path,
      "doc", "string") }
  if not rule.type then return nil end
  check_domain(c, rule, path)
  rule.alias, rule.unset = check_alias(c, spec, rule, path), spec.unset
  check_default(c, rule, path)
  return rule
end

-- A path may not be a rule and a group at once ("voting" and "voting.quorum").
local function check_nesting(c, rules)
  for _, rule in ipairs(rules) do
    for _, other in ipairs(rules) do
      if other.path:sub(1, #rule.path + 1) == rule.path .. "." then
        c:problem(join("policy.rules", rule.path), "is also the group of '" .. other.path .. "'", "policy.path")
      end
    end
  end
end

-- Conditions name other rules; a misspelt one would never hold.
local function check_references(c, rules)
  local names, set = { "commitment.authority" }, { ["commitment.authority"] = true }
  for _, rule in ipairs(rules) do
    names[#names + 1], set[rule.path] = rule.path, true
  end
  for _, rule in ipairs(rules) do
    local caution = rule.caution or {}
    local conditions = { rule.requires or false, rule.inert_without or false, caution.unless or false }
    for _, case in ipairs(rule.cases or {}) do conditions[#conditions + 1] = case end
    for _, condition in pairs(conditions) do
      if type(condition) == "table" and not set[condition[1]] then
        c:problem(join("policy.rules", rule.path), "'" .. tostring(condition[1]) .. "' is no rule of this mode"
          .. checker.hint(condition[1], names), "policy.condition")
      end
    end
  end
end

---Fills model.policy = { rules = list|nil, evaluate = bool }.
function M.check(c, mode, model)
  local tbl = c:get(mode, "", "policy", "table")
  model.policy = { evaluate = false }
  if not tbl then return end
  c:keys(tbl, "policy", { "rules", "evaluate" })
  model.policy.evaluate = c:get(tbl, "policy", "evaluate", "function") and true or false
  local rules = c:get(tbl, "policy", "rules", "table")
  if not rules then return end
  model.policy.rules = {}
  for _, name in ipairs(c:ordered(rules, "policy.rules")) do
    local path = join("policy.rules", name)
    if type(name) ~= "string" then
      c:problem(path, "rules are keyed by their path", "policy.path")
    else
      local rule = check_rule(c, name, rules[name], path)
      if rule then table.insert(model.policy.rules, rule) end
    end
  end
  check_nesting(c, model.policy.rules)
  check_references(c, model.policy.rules)
end

return M
