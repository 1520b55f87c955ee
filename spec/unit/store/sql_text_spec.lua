local sql_text = require("macp.store.sql_text")

describe("splitting a migration", function()
  it("separates statements and drops empty ones", function()
    assert.same({ "select 1", "select 2" }, sql_text.split("select 1;\n\n;select 2;\n-- the end\n"))
  end)

  it("keeps semicolons in strings, names, comments and dollar quotes", function()
    local text = [[insert into t values ('a;b''c'); -- a;b
      create function f() returns text as $body$ select 'x;y'; $body$ language sql;
      select "odd;name" /* ; /* nested ; */ ; */ from t]]
    local statements = sql_text.split(text)
    assert.equal(3, #statements)
    assert.truthy(statements[1]:find("a;b''c", 1, true))
    assert.truthy(statements[2]:find("select 'x;y'; $body$ language sql", 1, true))
    assert.truthy(statements[3]:find('"odd;name"', 1, true))
  end)

  it("says where a quote begins that does not end", function()
    local statements, reason = sql_text.split("select 1;\nselect 'oops;\n")
    assert.is_nil(statements)
    assert.equal("a quoted text starting at line 2 has no end", reason)
  end)

  it("takes a parameter's dollar for what it is", function()
    assert.same({ "select $1, $2" }, sql_text.split("select $1, $2;"))
  end)
end)
