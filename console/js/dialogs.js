/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What changes a key: each asks first, and says where it went wrong.
 */

import * as api from './api.js';
import {
    button, copyButton, el, errorBox, icon, iconButton, toast,
} from './dom.js';
import { formatDate, formatDuration, formatRelative } from './format.js';
import * as store from './store.js';

const EXPIRIES = [['30d', '30 days'], ['90d', '90 days'], ['180d', '180 days'],
                  ['365d', 'a year']];

/* fields that share a line */
const HALF = new Set(['environment', 'expires', 'owner', 'credits']);

let ids = 0;


/*
 * A form in a dialog.  "submit" gets the form and may throw what the API
 * refuses: that appears at the field that its message names, or on top.  What
 * it returns is called when the dialog is gone.
 */

function formDialog({ title, intro, fields = [], label, danger, submit }) {
    const problem = el('div');
    const confirm = el('button', {
        type: 'submit', class: `button ${danger ? 'danger' : 'primary'}`,
    }, label);

    const send = async (event) => {
        event.preventDefault();
        clearFaults(fields, problem);
        confirm.disabled = true;

        try {
            const next = await submit();

            dialog.close();
            next?.();

        } catch (error) {
            if (!(error instanceof api.ApiError)) {
                throw error;
            }

            showFault(error, fields, problem);

        } finally {
            confirm.disabled = false;
        }
    };

    const dialog = openDialog(title, el('form', { novalidate: true,
                                                  onsubmit: send },
        intro && el('p', { class: 'intro' }, intro), problem,
        el('div', { class: 'fields' }, fields.map(({ node }) => node)),
        el('div', { class: 'buttons' },
           button('Cancel', { onclick: () => dialog.close() }), confirm)));

    return { dialog, confirm, problem };
}


function openDialog(title, body, { closable = true } = {}) {
    const id = `dialog-${++ids}`;

    const dialog = el('dialog', {
        'aria-labelledby': id,
        onclose: () => dialog.remove(),
        oncancel: (event) => closable || event.preventDefault(),
    },
    el('div', { class: 'dialog-head' }, el('h2', { id }, title),
       closable && iconButton('close', 'Close',
                              { onclick: () => dialog.close() })),
    body);

    document.body.append(dialog);
    dialog.showModal();

    /* rather than the button that closes it */
    dialog.querySelector('[data-focus], input, select')?.focus();

    return dialog;
}


function clearFaults(fields, problem) {
    problem.replaceChildren();

    for (const { fault, input } of fields) {
        fault.textContent = '';
        input.removeAttribute('aria-invalid');
    }
}


function showFault(error, fields, problem) {
    const field = [400, 409].includes(error.status)
        && fields.find(({ name }) => new RegExp(`\\b${name}\\b`)
                                     .test(error.message));

    if (!field) {
        problem.replaceChildren(errorBox(error));
        return;
    }

    field.input.setAttribute('aria-invalid', 'true');
    field.input.focus();
    field.fault.replaceChildren(error.message, ' ',
        el('span', { class: 'fine' }, 'Request ',
           el('code', null, error.requestId)));
    field.refused?.(error);
}


function field(name, label, input, hint) {
    const id = `field-${++ids}`;
    const fault = el('p', { class: 'fault', id: `${id}-fault`,
                            role: 'alert' });

    input.id = id;
    input.setAttribute('aria-describedby', `${id}-hint ${id}-fault`);

    return {
        name, input, fault,
        node: el('div', { class: `field ${HALF.has(name) ? 'half' : ''}` },
                 el('label', { for: id }, label), input,
                 el('p', { class: 'hint', id: `${id}-hint` }, hint), fault),
    };
}


function textField(name, label, hint, attributes) {
    return field(name, label,
                 el('input', { type: 'text', autocomplete: 'off',
                               spellcheck: 'false', ...attributes }), hint);
}


function selectField(name, label, hint, choices) {
    return field(name, label,
                 el('select', null, choices.map(([value, text]) =>
                     el('option', { value }, text))), hint);
}


/* refused names may be forced: the box appears with the refusal */

function nameField(value) {
    const box = el('input', { type: 'checkbox' });
    const force = el('label', { class: 'check', hidden: true }, box,
                     'Use this name nevertheless');
    const made = textField('client_id', 'Name',
                           'Service and environment, such as '
                           + 'api-gateway-prod', { value, maxlength: 63 });

    made.node.append(force);
    made.forced = () => (box.checked ? { force: true } : {});
    made.refused = ({ status }) => { force.hidden = status !== 409; };

    return made;
}


function limitsField(value, hint) {
    const made = textField('limits', 'Limits', hint, {
        value: value.map(([policy, limit]) => `${policy}=${limit}`).join(' '),
        placeholder: 'default=600r/1m burst=20r/1s',
    });

    made.read = () => Object.fromEntries(
        made.input.value.trim().split(/\s+/).filter(Boolean)
            .map((part) => part.split(/=(.*)/s).slice(0, 2))
            .map(([policy, limit]) => [policy, limit ?? '']));

    return made;
}


export async function createKey() {
    let config;

    try {
        config = await store.config();

    } catch (error) {
        toast(error.message, 'bad');
        return;
    }

    const name = nameField();
    const environment = selectField('environment', 'Environment', '',
        config.environments.map((e) => [e.name, e.name]));
    const owner = textField('owner', 'Owner', 'Whom to ask about it',
                            { maxlength: 128 });
    const note = textField('note', 'Note', 'Optional', { maxlength: 1024 });
    const limits = limitsField([], 'Empty: those of the environment');
    const credits = textField('credits', 'Credits',
                              'Granted to the key. Empty: not counted',
                              { inputmode: 'numeric' });
    const expires = selectField('expires', 'Expires', 'From now on',
                                [['', 'never'], ...EXPIRIES]);

    const describe = () => {
        const { rotation_seconds: rotation, limits: own } =
            config.environments.find((e) => e.name === environment.input.value)
            ?? { limits: {} };
        const texts = [
            rotation ? `To be rotated every ${formatDuration(rotation * 1e3)}.`
                     : 'No rotation is asked for.',
            ...Object.entries(own).map(([policy, limit]) =>
                `Limit ${policy}: ${limit}.`),
        ];

        environment.node.querySelector('.hint').textContent = texts.join(' ');
    };

    const prod = config.environments.find((e) => e.name === 'prod');

    environment.input.value = (prod ?? config.environments[0])?.name ?? '';
    environment.input.addEventListener('change', describe);
    describe();

    formDialog({
        title: 'Create a key',
        label: 'Create key',
        fields: [name, environment, expires, owner, credits, limits, note],
        submit: async () => {
            const own = limits.read();
            const key = await api.post('keys', {
                client_id: name.input.value.trim(),
                environment: environment.input.value,
                owner: owner.input.value.trim() || null,
                note: note.input.value.trim() || null,
                limits: Object.keys(own).length > 0 ? own : null,
                credits: readNumber(credits.input),
                expires: expires.input.value || null,
                ...name.forced(),
            });

            store.reload(key.key_fingerprint);

            return () => revealKey(key, 'The key was created',
                                   'It works at once, on every host.');
        },
    });
}


/* what is no number is for the API to refuse */

function readNumber(input) {
    const text = input.value.trim();

    return /^\d+$/.test(text) ? Number(text) : text || null;
}


/* the only time that a key is shown: Esc does not close it by accident */

function revealKey({ api_key: key, key_fingerprint: id }, title, text) {
    const curl = `curl -H 'X-Api-Key: ${key}' ${api.example}`;

    const secret = (label, value) => el('div', { class: 'secret' },
        el('p', { class: 'label' }, label),
        el('div', { class: 'secret-line' },
           el('code', { tabindex: 0 }, value),
           copyButton(value, `Copy: ${label}`, { class: 'copy button' })));

    const dialog = openDialog(title, el('div', null,
        el('div', { class: 'notice warn' }, icon('alert'),
           el('p', null, 'The key is shown this once and is stored nowhere. '
                         + 'Copy it now.')),
        secret('Key', key), secret('Try it', curl),
        el('p', { class: 'fine' }, text, ' Its id is ', el('code', null, id),
           '.'),
        el('div', { class: 'buttons' },
           el('button', { type: 'button', class: 'button primary',
                          onclick: () => {
                              dialog.close();
                              location.hash = `#/keys/${id}`;
                          } }, 'I have stored the key'))),
    { closable: false });

    dialog.querySelector('.copy').focus();
}


export function editKey(key) {
    const name = nameField(key.name);
    const owner = textField('owner', 'Owner', 'Whom to ask about it',
                            { value: key.owner, maxlength: 128 });
    const note = textField('note', 'Note', 'Optional',
                           { value: key.note, maxlength: 1024 });
    const limits = limitsField(key.limits, 'Empty: those of the location');
    const credits = textField('credits', 'Credits', 'Granted in all; +1000 '
                              + 'grants more, -1000 takes back',
                              { value: key.credits ?? '' });
    const expires = selectField('expires', 'Expires', 'From now on', [
        ['', key.expires ? `on ${formatDate(key.expires)}, as it is`
                         : 'never, as it is'],
        ...key.expires ? [['never', 'never']] : [], ...EXPIRIES]);

    formDialog({
        title: 'Change the key',
        label: 'Save',
        fields: [name, owner, credits, limits, note, expires],
        submit: async () => {
            const changes = {
                ...changed('client_id', name.input, key.name),
                ...changed('owner', owner.input, key.owner),
                ...changed('note', note.input, key.note),
                ...changed('expires', expires.input, ''),
                ...changedLimits(limits.read(), key.limits),
                ...changedCredits(credits.input, key.credits),
            };

            if (Object.keys(changes).length > 0) {
                await api.post('keys/set', { key_fingerprint: key.id,
                                             ...changes, ...name.forced() });
                await store.reload(key.id);
                toast('Saved');
            }
        },
    });
}


function changed(name, input, old) {
    const value = input.value.trim();

    return value === old ? {} : { [name]: value };
}


function changedLimits(limits, old) {
    const changes = { ...limits };

    for (const [policy, limit] of old) {
        if (!(policy in limits)) {
            changes[policy] = 'none';

        } else if (limits[policy] === limit) {
            delete changes[policy];
        }
    }

    return Object.keys(changes).length > 0 ? { limits: changes } : {};
}


function changedCredits(input, old) {
    const value = readNumber(input);

    return value === null || value === old ? {} : { credits: value };
}


export function rotateKey(key) {
    const grace = selectField('grace', 'Grace',
        'For so long nobody has to use the old secret before it is ended',
        [['1h', '1 hour'], ['24h', '24 hours'], ['7d', '7 days']]);

    grace.input.value = '24h';

    formDialog({
        title: 'Rotate the key',
        intro: 'The key gets a second secret. Both are good, with the same '
               + 'id, limits and credits, until you finish the rotation.',
        label: 'Make a new secret',
        fields: [grace],
        submit: async () => {
            const answer = await api.post('keys/rotate', {
                key_fingerprint: key.id, action: 'start',
                grace: grace.input.value,
            });

            store.reload(key.id);

            return () => revealKey(answer, 'The new secret', 'The old one '
                                   + 'works until you finish the rotation.');
        },
    });
}


/* "finish" ends the old secret, "cancel" the new one */

export function endRotation(key, rotation, action) {
    const finish = action === 'finish';
    const safe = finish && rotation.verdict === 'safe';
    const box = el('input', { type: 'checkbox', checked: false });

    const { problem } = formDialog({
        title: finish ? 'Finish the rotation' : 'Cancel the rotation',
        intro: finish ? finishText(rotation)
                      : 'The new secret ends, and the old one stays. Whoever '
                        + 'uses the new one gets 401.',
        label: finish ? 'End the old secret' : 'End the new secret',
        danger: !safe,
        submit: async () => {
            await api.post('keys/rotate', {
                key_fingerprint: key.id, action,
                ...(box.checked && { force: true }),
            });
            await store.reload(key.id);
            toast(finish ? 'The old secret is ended'
                         : 'The new secret is ended');
        },
    });

    if (!safe) {
        problem.after(el('label', { class: 'check' }, box,
                         'Force it: end the secret even if it is in use'));
    }
}


function finishText({ verdict, old_last_used_at: used }) {
    const ago = used && formatRelative(Date.parse(used), api.now());

    return {
        safe: 'Nobody uses the old secret any more. It ends for good.',
        used: `The old secret was used ${ago}. Whoever uses it gets 401 when `
              + 'it ends.',
        watch: 'The rotation is young: somebody may still have the old '
               + 'secret, and gets 401 when it ends.',
    }[verdict];
}


export function disableKey(key) {
    formDialog({
        title: `Disable ${key.name}?`,
        intro: 'Every gateway refuses it with 401 within a second. It can be '
               + 'enabled again.',
        label: 'Disable', danger: true,
        submit: () => change(key, 'disable', 'The key is disabled'),
    });
}


export function enableKey(key) {
    formDialog({
        title: `Enable ${key.name}?`,
        intro: 'Its requests are let pass again.',
        label: 'Enable',
        submit: () => change(key, 'enable', 'The key is enabled'),
    });
}


async function change(key, action, text) {
    await api.post(`keys/${action}`, { key_fingerprint: key.id });
    await store.reload(key.id);
    toast(text);
}


export function deleteKey(key) {
    const name = textField('client_id', `Type ${key.name} to delete it`, '');

    const { confirm } = formDialog({
        title: 'Delete the key?',
        intro: 'The key, its counters and its events are gone for good, and '
               + 'its clients get 401. To be able to go back, disable it.',
        label: 'Delete for good', danger: true,
        fields: [name],
        submit: async () => {
            await api.post('keys/delete', { key_fingerprint: key.id,
                                            client_id: name.input.value });
            location.hash = '#/keys';
            store.drop(key.id);
            toast(`${key.name} is deleted`);
        },
    });

    confirm.disabled = true;
    name.input.addEventListener('input', () => {
        confirm.disabled = name.input.value !== key.name;
    });
}

