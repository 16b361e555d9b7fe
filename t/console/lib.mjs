// Copyright (C) The ngx_http_rbgv_auth authors

// A browser for one test file: what it finds is a line "ok NAME" or
// "not ok NAME" for t/console.t, which says where everything is:
// RBGV_CONSOLE='{"origin": "http://127.0.0.1:PORT", "token": "...", ...}'.

import { chromium } from 'playwright-core';

export const setup = JSON.parse(process.env.RBGV_CONSOLE);

export const page = (path) => `${setup.origin}/admin/${path}`;

// a busy machine is no failure
const PATIENCE = 60e3;

const problems = [];
const expected = [];


export function ok(good, name, seen) {
    console.log(`${good ? 'ok' : 'not ok'} ${name}`);

    if (!good && seen !== undefined) {
        console.log(`# ${JSON.stringify(seen)}`);
    }
}


export function is(got, wanted, name) {
    ok(got === wanted, name, { got, wanted });
}


export function note(text) {
    console.log(`# ${text}`);
}


// lines of the console that the test is about
export function expect(pattern) {
    expected.push(pattern);
}


// all that a page may not do is looked for while the test runs
export async function run(test, options = {}) {
    const browser = await chromium.launch({
        executablePath: '/usr/bin/chromium',
        args: ['--no-sandbox', '--disable-dev-shm-usage'],
    });

    try {
        const context = await browser.newContext({
            viewport: { width: 1360, height: 900 }, locale: 'en-GB',
            reducedMotion: 'reduce',
            permissions: ['clipboard-read', 'clipboard-write'], ...options,
        });

        context.setDefaultTimeout(PATIENCE);
        context.on('page', watch);

        await test(await context.newPage(), context);
        is(problems.join('\n'), '', 'no errors, and no strange requests');

    } catch (error) {
        ok(false, 'the test ends', `${error.stack} ${problems.join('\n')}`);

    } finally {
        await browser.close();
    }
}


function watch(opened) {
    opened.on('pageerror', (error) => problems.push(error.stack));
    opened.on('dialog', (dialog) => problems.push(`alert ${dialog.message()}`));

    opened.on('console', (message) => {
        const text = `${message.type()}: ${message.text()}`;

        if (['error', 'warning'].includes(message.type())
            && !expected.some((pattern) => pattern.test(text)))
        {
            problems.push(text);
        }
    });

    opened.on('request', (request) => {
        const url = request.url();

        if (new URL(url).origin !== setup.origin) {
            problems.push(`request to ${url}`);
        }

        if (url.includes(setup.token) || /rbgv_[a-z0-9]+_/.test(url)) {
            problems.push(`secret in ${url}`);
        }
    });
}


export async function signIn(tab, hash = '') {
    await tab.goto(page(hash));
    await tab.getByLabel('Admin token').fill(setup.token);
    await tab.getByRole('button', { name: 'Sign in' }).click();
    await tab.getByRole('button', { name: 'Sign out' }).waitFor();
}


// a request of a client of the API
export async function call(key) {
    const response = await fetch(`${setup.api}/v1/hello`,
                                 { headers: { 'X-Api-Key': key } });

    await response.arrayBuffer();
    return response.status;
}


// until a function returns something true
export async function eventually(condition) {
    const end = Date.now() + PATIENCE;

    while (Date.now() < end) {
        if (await condition()) {
            return true;
        }

        await new Promise((resolve) => { setTimeout(resolve, 50); });
    }

    return false;
}
