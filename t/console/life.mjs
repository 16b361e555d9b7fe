// Copyright (C) The ngx_http_rbgv_auth authors

// The life of a key, on the page: from signing in to its end.

import { call, eventually, expect, is, ok, page, run, setup, signIn } from
    './lib.mjs';

await run(async (tab) => {

    // refusals of the API, as Chromium tells them
    expect(/status of (401|409|400)/);

    // a token that is none

    await tab.goto(page(''));
    await tab.getByLabel('Admin token').fill('wrong');
    await tab.keyboard.press('Enter');

    const problem = tab.getByRole('alert');

    ok(/Request [0-9a-f]{32}/.test(await problem.textContent()),
       'a wrong token is refused, with the id of the request');
    is(await tab.evaluate(() => sessionStorage.length), 0,
       'and is not kept');

    // signing in

    await signIn(tab);
    await tab.getByRole('heading', { name: 'API keys' }).waitFor();

    is(await tab.evaluate(() => document.cookie + localStorage.length), '0',
       'the token is neither in a cookie nor kept for long');

    await tab.reload();
    await tab.getByRole('button', { name: 'Create key' }).first().waitFor();
    ok(true, 'it survives a reload');

    // creating

    const dialog = tab.getByRole('dialog');
    const name = dialog.getByLabel('Name', { exact: true });

    await tab.getByRole('button', { name: 'Create key' }).first().click();
    await name.fill('Bad Name');
    await dialog.getByRole('button', { name: 'Create key' }).click();
    await dialog.locator('.fault:not(:empty)').waitFor();
    is(await name.getAttribute('aria-invalid'), 'true',
       'a bad name is told at its field');

    await name.fill('test1');
    await dialog.getByRole('button', { name: 'Create key' }).click();
    await dialog.getByLabel('Use this name nevertheless').waitFor();
    ok(true, 'a name that says nothing may be forced');

    await name.fill('checkout-prod');
    await dialog.getByLabel('Environment').selectOption('prod');
    await dialog.getByLabel('Owner').fill('payments');
    await dialog.getByLabel('Limits').fill('default=1000r/1m');
    await dialog.getByLabel('Credits').fill('500');
    await dialog.getByLabel('Expires').selectOption('30d');
    await dialog.getByRole('button', { name: 'Create key' }).click();

    const key = await reveal(tab, dialog);

    is(await tab.evaluate(() => navigator.clipboard.readText()), key,
       'the key is copied');
    await tab.keyboard.press('Escape');
    ok(await dialog.isVisible(), 'Esc does not hide it');

    await dialog.getByRole('button', { name: 'I have stored the key' }).click();
    await tab.getByRole('heading', { name: 'checkout-prod' }).waitFor();
    ok(!(await tab.content()).includes(key), 'it is gone from the page');

    // its traffic

    for (let i = 0; i < 7; i++) {
        is(await call(key), 200, `call ${i + 1}`);
    }

    const volume = tab.locator('.tile', {
        has: tab.getByText('30 days', { exact: true }),
    }).locator('.value');

    await eventually(async () => await volume.textContent() === '7');
    is(await volume.textContent(), '7', 'the volume moves');

    await tab.getByText('Show as a table').first().click();
    await tab.getByRole('region', { name: /Requests of 30 days/ })
        .getByRole('cell', { name: '7', exact: true }).waitFor();
    ok(true, 'also as a table');

    // changing

    await tab.getByRole('button', { name: 'Change', exact: true }).click();
    await dialog.getByLabel('Note').fill('OPS-1');
    await dialog.getByLabel('Limits').fill('default=1000r/1m burst=100r/1s');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await tab.getByText('OPS-1').waitFor();
    await tab.getByText('100 / s').waitFor();
    ok(true, 'a note and a limit are changed');

    // rotating

    await tab.getByRole('button', { name: 'Rotate' }).click();
    await dialog.getByRole('button', { name: 'Make a new secret' }).click();

    const fresh = await reveal(tab, dialog);

    await dialog.getByRole('button', { name: 'I have stored the key' }).click();
    ok(fresh !== key, 'there is a new secret');
    is(await eventually(async () => await call(fresh) === 200), true,
       'which is good');
    is(await call(key), 200, 'and so is the old one');

    await tab.locator('.verdict', { hasText: /still used/ }).waitFor();
    ok(true, 'the old one is seen to be in use');

    await tab.getByRole('button', { name: 'Finish anyway' }).click();
    await dialog.getByRole('button', { name: 'End the old secret' }).click();
    await dialog.getByRole('alert').filter({ hasText: 'Request' }).waitFor();
    is(await call(key), 200, 'so the rotation is not finished');

    await dialog.getByLabel(/Force it/).check();
    await dialog.getByRole('button', { name: 'End the old secret' }).click();
    await dialog.waitFor({ state: 'detached' });
    ok(await eventually(async () => await call(key) === 401),
       'unless it is forced');
    is(await call(fresh), 200, 'the new secret stays');

    // a rotation that nobody is left behind by

    await tab.goto(page(`#/keys/${setup.rotated}`));
    await tab.getByText('safe to finish').waitFor();
    await tab.getByRole('button', { name: 'Finish rotation' }).click();
    await dialog.getByRole('button', { name: 'End the old secret' }).click();
    await tab.getByRole('button', { name: 'Rotate' }).waitFor();
    ok(true, 'one that is safe is finished without force');

    // disabling, and enabling

    await tab.getByRole('link', { name: 'All keys' }).click();
    await tab.getByRole('link', { name: 'checkout-prod' }).click();
    await tab.getByRole('button', { name: 'Disable' }).click();
    await dialog.getByRole('button', { name: 'Disable' }).click();
    await tab.getByRole('button', { name: 'Enable' }).waitFor();
    ok(await eventually(async () => await call(fresh) === 401),
       'a disabled key is refused');

    await tab.getByRole('button', { name: 'Enable' }).click();
    await dialog.getByRole('button', { name: 'Enable' }).click();
    await tab.getByRole('button', { name: 'Disable' }).waitFor();
    ok(await eventually(async () => await call(fresh) === 200),
       'an enabled one is not');

    // who did it

    const changes = tab.getByRole('region', { name: 'Changes' });

    for (const change of ['created', 'changed', 'rotation started',
                          'rotation finished', 'disabled', 'enabled'])
    {
        await changes.getByText(change, { exact: true }).first().waitFor();
    }

    ok(true, 'all of it is recorded');

    // deleting

    const confirm = dialog.getByRole('button', { name: 'Delete for good' });

    await tab.getByRole('button', { name: 'Delete' }).click();
    await dialog.getByRole('textbox').fill('checkout');
    ok(await confirm.isDisabled(), 'a part of the name does not delete it');
    await dialog.getByRole('textbox').fill('checkout-prod');
    await confirm.click();
    await tab.getByRole('heading', { name: 'API keys' }).waitFor();
    await tab.getByRole('link', { name: 'checkout-prod' })
        .waitFor({ state: 'detached' });
    ok(await eventually(async () => await call(fresh) === 401),
       'a deleted key is refused');

    // a token that is taken back

    await tab.evaluate(() => {
        sessionStorage.setItem('rbgv-admin-token', 'expired');
    });
    await tab.reload();
    await tab.getByLabel('Admin token').waitFor();
    ok(await problem.isVisible(), 'a refused token leads back to signing in');

    // signing out

    await signIn(tab);
    await tab.getByRole('button', { name: 'Sign out' }).click();
    await tab.getByLabel('Admin token').waitFor();
    is(await tab.evaluate(() => sessionStorage.length), 0,
       'nothing is left after signing out');
});


// the key that is shown, after it was copied
async function reveal(tab, dialog) {
    await dialog.getByRole('button', { name: 'Copy: Key' }).click();
    await tab.locator('#live', { hasText: 'Copied' }).waitFor(
        { state: 'attached' });

    const key = await dialog.locator('.secret code').first().textContent();

    ok(/^rbgv_prod_\w{52}$/.test(key), 'the key is shown', key.length);
    ok((await dialog.locator('.secret code').nth(1).textContent())
           .includes(`curl -H 'X-Api-Key: ${key}' ${setup.origin}/`),
       'and a line to try it');

    return key;
}
