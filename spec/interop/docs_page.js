// Opens /docs in a browser without a window and uses it: the document is shown, a request is tried out, nothing is
// loaded from elsewhere and no policy is violated. Usage: node docs_page.js URL; needs puppeteer-core and chromium.
"use strict";

const puppeteer = require("puppeteer-core");

const WAIT_MS = 60000;

async function main(url) {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"],
  });
  const problems = [];
  try {
    const page = await browser.newPage();
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => problems.push(`page: ${error.message}`));
    page.on("requestfailed", (request) => problems.push(`failed: ${request.url()}`));
    page.on("request", (request) => {
      if (!request.url().startsWith(url) && !request.url().startsWith("data:")) problems.push(`elsewhere: ${request.url()}`);
    });
    await page.goto(`${url}/docs`, { waitUntil: "domcontentloaded", timeout: WAIT_MS });
    await page.waitForSelector(".opblock", { timeout: WAIT_MS });
    const shown = await page.$$eval(".opblock", (blocks) => blocks.length);
    const document = await (await fetch(`${url}/docs-json`)).json();
    const methods = Object.values(document.paths).flatMap((path) => Object.keys(path));
    if (shown !== methods.length) problems.push(`${shown} operations are shown, ${methods.length} are described`);
    await page.click("#operations-health-getHealthz .opblock-summary-control");
    await page.waitForSelector("#operations-health-getHealthz .execute", { timeout: WAIT_MS });
    await page.click("#operations-health-getHealthz .execute");
    await page.waitForSelector("#operations-health-getHealthz .live-responses-table tbody .response-col_status", {
      timeout: WAIT_MS });
    const status = await page.$eval("#operations-health-getHealthz .live-responses-table tbody .response-col_status",
      (cell) => cell.textContent.trim());
    if (!status.startsWith("200")) problems.push(`GET /healthz was answered with ${status}`);
    console.log(`${shown} operations, GET /healthz: ${status}`);
  } catch (error) {
    problems.push(error.message);
  } finally {
    await browser.close();
  }
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
