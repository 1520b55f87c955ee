-- Task: the initiator delegates one task; somebody eligible accepts it, tells progress and reports the end.
local macp   = require "macp"
local policy = require "lib.policy"

local function is_requested(s) return s.task.requested_assignee ~= "" end

-- The requested assignee, or anybody but the initiator when nobody in particular was asked.
local function is_eligible(s, who, c)
  if is_requested(s) then return who == s.task.requested_assignee end
  return who ~= c.initiator
end

local has_task = { "there is a task", function(s) return s.task ~= nil end }

local names_task = { "the message names the task", function(s, p) return p.task_id == s.task.task_id end }

local speaks_for_itself = { "a sender names nobody but itself as the assignee",
  function(s, p, by) return p.assignee == "" or p.assignee == by end }

local eligible = { "the sender is eligible: requested, or in an open pool anybody but the initiator",
  function(s, p, by, c) return is_eligible(s, by, c) end, "FORBIDDEN" }

local unfinished = { "the task has not ended", function(s) return not s.terminal_report end, "FORBIDDEN" }

local is_active = { "the sender is the active assignee",
  function(s, p, by) return s.active_assignee == by end, "FORBIDDEN" }

local function reports(s) return s.terminal_report or {} end

return {
  id      = "macp.mode.task.v1",
  version = "1.0.0",
  title   = "Task Mode",
  summary = "An orchestrator delegates one task; an assignee accepts it, reports progress and completes or fails it.",
  package = "macp.modes.task.v1",

  participants = { model = "orchestrated", min = 1, others = 1 },
  determinism  = "structural-only",

  state = {                             -- task, active_assignee and terminal_report are absent until they are
    rejections = macp.array {},
    rejected   = {},                    -- senders of rejections
    updates    = macp.array {},
  },

  messages = {
    TaskRequest = {
      doc     = "Describes the task, once per session; the deadline is only told.",
      from    = "initiator",
      payload = [[
        string task_id            = 1 [required];
        string title              = 2;
        string instructions       = 3;
        string requested_assignee = 4;      // empty: an open pool
        bytes  input              = 5;
        int64  deadline_unix_ms   = 6;
      ]],
      needs = {
        { "one task per session", function(s) return not s.task end },
        { "the requested assignee is a participant", function(s, p, by, c)
          return p.requested_assignee == "" or c.is_participant(p.requested_assignee)
        end },
      },
      apply = function(s, p, by)
        s.task = { task_id = p.task_id, title = p.title, instructions = p.instructions,
          requested_assignee = p.requested_assignee, input = p.input, deadline_unix_ms = p.deadline_unix_ms,
          requester = by }
      end,
    },

    -- In an open pool a rejection excludes its sender only; the policy decides about everything else after one.
    TaskAccept = {
      doc     = "Takes the task.",
      from    = "participant",
      payload = [[
        string task_id  = 1;
        string assignee = 2;
        string reason   = 3;
      ]],
      needs = {
        has_task, names_task,
        { "nobody is assigned", function(s) return not s.active_assignee end },
        { "the policy allows to accept a task after it was rejected", function(s, p, by, c)
          if c.rules.assignment.allow_reassignment_on_reject then return true end
          if is_requested(s) then return #s.rejections == 0 end
          return not s.rejected[by]
        end, "POLICY_DENIED" },
        speaks_for_itself, eligible,
      },
      apply = function(s, p, by) s.active_assignee = by end,
    },

    TaskReject = {
      doc     = "Declines the task, or gives it back where the policy allows that.",
      from    = "participant",
      payload = [[
        string task_id  = 1;
        string assignee = 2;
        string reason   = 3;
      ]],
      needs = {
        has_task, names_task,
        { "the policy allows the assignee to give the task back", function(s, p, by, c)
          return s.active_assignee ~= by or c.rules.assignment.allow_reassignment_on_reject
        end, "POLICY_DENIED" },
        { "nobody else is assigned", function(s, p, by) return not s.active_assignee or s.active_assignee == by end },
        { "the task has not ended", function(s) return not s.terminal_report end },
        speaks_for_itself,
        { "the sender is the assignee, requested, or in an open pool anybody but the initiator",
          function(s, p, by, c) return s.active_assignee == by or is_eligible(s, by, c) end, "FORBIDDEN" },
        { "one rejection per participant", function(s, p, by) return not s.rejected[by] end },
      },
      apply = function(s, p, by)
        s.active_assignee = nil
        s.rejected[by] = true
        s.rejections[#s.rejections + 1] = { task_id = p.task_id, assignee = by, reason = p.reason }
      end,
    },

    TaskUpdate = {
      doc     = "Tells progress.",
      from    = "participant",
      payload = [[
        string task_id        = 1;
        string status         = 2;
        double progress       = 3;
        string message        = 4;
        bytes  partial_output = 5;
      ]],
      needs = { has_task, names_task, unfinished, is_active },
      apply = function(s, p, by)
        s.updates[#s.updates + 1] = { task_id = p.task_id, status = p.status, progress = p.progress,
          message = p.message, partial_output = p.partial_output, sender = by }
      end,
    },

    TaskComplete = {
      doc     = "Reports success; the task has ended.",
      from    = "participant",
      payload = [[
        string task_id  = 1;
        string assignee = 2;
        bytes  output   = 3;
        string summary  = 4;
      ]],
      needs = { has_task, names_task, unfinished, is_active, speaks_for_itself },
      apply = function(s, p, by)
        s.terminal_report = { Complete = { task_id = p.task_id, assignee = by, output = p.output,
          summary = p.summary } }
      end,
    },

    TaskFail = {
      doc     = "Reports failure; the task has ended.",
      from    = "participant",
      payload = [[
        string task_id    = 1;
        string assignee   = 2;
        string error_code = 3;
        string reason     = 4;
        bool   retryable  = 5;
      ]],
      needs = { has_task, names_task, unfinished, is_active, speaks_for_itself },
      apply = function(s, p, by)
        s.terminal_report = { Fail = { task_id = p.task_id, assignee = by, error_code = p.error_code,
          reason = p.reason, retryable = p.retryable } }
      end,
    },
  },

  outcomes = {
    { action = "task.completed", positive = true, doc = "when the assignee reported completion",
      when = function(s) return reports(s).Complete ~= nil end },
    { action = "task.failed", positive = false, doc = "when the assignee reported failure",
      when = function(s) return reports(s).Fail ~= nil end },
  },

  policy = policy,

  invariants = {
    { "an assignee, a rejection and a report need a task", function(s)
      return s.task ~= nil or not (s.active_assignee or s.terminal_report or s.rejections[1] or s.updates[1])
    end },
    { "whoever reported is the assignee", function(s)
      local report = reports(s).Complete or reports(s).Fail
      return report == nil or report.assignee == s.active_assignee
    end },
    { "every rejection has its sender on record", function(s)
      return #s.rejections == macp.count(s.rejected)
        and macp.all(s.rejections, function(own) return s.rejected[own.assignee] end)
    end },
  },
}
