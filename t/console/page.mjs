// Copyright (C) The ngx_http_rbgv_auth authors

// What every page has to be: inert, usable by keyboard and by screen reader,
// in both themes, on a phone, and when the gateway is away.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { expect, is, ok, page, run, setup, signIn } from './lib.mjs';

const axe = readFileSync(createRequire(import.meta.url)
                             .resolve('axe-core/axe.min.js'), 'utf8');

await run(async (tab, context) => {
    const rows = tab.locator('tr[data-id]');
    const shown = async () => (await rows.locator('.name').allTextContents())
        .sort().join();

    // the header that stands behind all this

    const response = await tab.goto(page(''));
    const policy = response.headers()['content-security-policy'];

    ok(/default-src 'none'/.test(policy), 'nothing is allowed by default');
    ok(!/unsafe|\*|https?:/.test(policy), 'and nothing unsafe', policy);
    ok(/frame-ancestors 'none'/.test(policy), 'no frames');

    await accessible(tab, 'signing in');

    // injection

    await signIn(tab);
    await rows.first().waitFor();
    await tab.getByRole('link', { name: setup.evil }).waitFor();
    is(await tab.locator('main img, main script').count(), 0,
       'a name with elements is text');

    await accessible(tab, 'the keys');

    await tab.getByRole('link', { name: setup.evil }).click();
    await tab.getByText(setup.note).waitFor();
    is(await tab.locator('main img, main script').count(), 0,
       'so is a note');

    await accessible(tab, 'a key');

    // by keyboard alone

    await tab.goto(page('#/keys'));
    await rows.first().waitFor();
    await tab.keyboard.press('/');
    await tab.keyboard.type('BILLING');
    await tab.waitForFunction(() => location.hash.includes('q=BILLING'));
    is(await rows.count(), 1, '"/" searches, whatever the case');

    await tab.locator('#search').fill('no such key');
    await tab.getByText('No key matches').waitFor();
    await tab.getByRole('button', { name: 'Show all keys' }).press('Enter');
    await rows.nth(2).waitFor();
    ok(true, 'what finds nothing says so');

    await reach(tab, (node) => node.dataset.order === 'name');
    await tab.keyboard.press('Enter');
    is(await tab.locator('th[aria-sort="ascending"]').textContent(), 'Name',
       'Enter sorts');

    const names = await rows.locator('.name').allTextContents();

    is(names.join(), [...names].sort().join(), 'by name');

    await reach(tab, (node) => node.classList.contains('name'));
    await tab.keyboard.press('ArrowDown');
    is(await tab.evaluate(() => document.activeElement.textContent), names[1],
       'the arrows go from key to key');
    await tab.keyboard.press('Enter');
    await tab.getByRole('heading', { name: names[1] }).waitFor();
    ok(true, 'Enter opens one');

    await reach(tab, (node) => node.textContent === 'Disable');
    await tab.keyboard.press('Enter');
    await tab.getByRole('dialog').waitFor();
    await accessible(tab, 'a dialog');
    await tab.keyboard.press('Escape');
    await tab.getByRole('dialog').waitFor({ state: 'detached' });
    is(await tab.evaluate(() => document.activeElement.textContent), 'Disable',
       'Esc goes back to where it was');

    // filters

    await tab.goto(page('#/keys'));
    await tab.getByRole('button', { name: 'Spiking' }).click();
    is(await shown(), setup.spiking,
       'what spikes');
    await tab.getByRole('button', { name: 'Rotation overdue' }).click();
    is(await shown(), setup.overdue,
       'what is overdue');
    await tab.getByRole('button', { name: 'Inactive' }).click();
    is(await shown(), setup.inactive,
       'what is inactive');

    await tab.reload();
    await rows.first().waitFor();
    is(await shown(), setup.inactive,
       'the address keeps the filter');

    // export

    const [download] = await Promise.all([
        tab.waitForEvent('download'),
        tab.getByRole('button', { name: 'Export' }).click(),
    ]);

    ok(readFileSync(await download.path(), 'utf8').includes(setup.inactive),
       'the keys can be exported');

    // the theme

    const color = () => tab.evaluate(() =>
        getComputedStyle(document.body).backgroundColor);
    const light = await color();

    await tab.emulateMedia({ colorScheme: 'dark' });

    const dark = await color();

    ok(light !== dark, 'the theme is that of the system');
    await accessible(tab, 'the keys, dark');
    await tab.getByRole('button', { name: 'Theme: system' }).click();
    is(await color(), light, 'unless another is chosen');
    await tab.reload();
    await rows.first().waitFor();
    is(await color(), light, 'which is kept');
    await tab.getByRole('button', { name: 'Theme: light' }).click();
    await tab.getByRole('button', { name: 'Theme: dark' }).click();
    is(await color(), dark, 'until it is that of the system again');

    // narrow

    for (const hash of ['#/keys', `#/keys/${setup.rotated}`, '#/audit',
                        '#/gateway'])
    {
        await tab.setViewportSize({ width: 400, height: 800 });
        await tab.goto(page(hash));
        await tab.locator('main h1').waitFor();
        is(await tab.evaluate(() => document.documentElement.scrollWidth), 400,
           `${hash} is not wider than a phone`);
        await accessible(tab, `${hash} on a phone`);
    }

    await tab.setViewportSize({ width: 1360, height: 900 });

    // a key that is none

    expect(/status of 404/);
    await tab.goto(page('#/keys/000000000000'));
    await tab.getByText('No such key').waitFor();
    ok(true, 'an unknown key is told');

    // the gateway is away

    expect(/ERR_INTERNET_DISCONNECTED/);
    await tab.goto(page('#/keys'));
    await rows.first().waitFor();
    await context.setOffline(true);
    await tab.getByText('Offline').waitFor();
    await tab.getByRole('button', { name: 'Refresh' }).click();
    await tab.getByText('The gateway cannot be reached').waitFor();
    ok(await rows.first().isVisible(), 'what is known stays');
    await context.setOffline(false);
    await tab.getByRole('button', { name: 'Try again' }).click();
    await tab.getByText('The gateway cannot be reached')
        .waitFor({ state: 'detached' });
    ok(true, 'and it goes on when the gateway is back');
});


// presses Tab until the element that has the focus is one of these
async function reach(tab, wanted) {
    for (let i = 0; i < 200; i++) {
        if (await tab.evaluate(`(${wanted})(document.activeElement)`)) {
            return;
        }

        await tab.keyboard.press('Tab');
    }

    throw new Error(`Tab does not reach ${wanted}`);
}


async function accessible(tab, name) {
    if (!await tab.evaluate('typeof axe === "object"')) {
        await tab.evaluate(axe);
    }

    const { violations } = await tab.evaluate(() => axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa',
                  'best-practice'],
    }));

    is(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`).join('\n'),
       '', `${name}: axe finds nothing`);
}
