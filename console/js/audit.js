/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Who has changed what.
 */

import * as api from './api.js';
import { badge, button, el, emptyBox, errorBox, table } from './dom.js';
import { plural } from './format.js';
import { moment } from './parts.js';

const SHOWN = [100, 1000];

const ACTIONS = {
    create: 'created', rotate: 'rotation started', finish: 'rotation finished',
    cancel: 'rotation cancelled', disable: 'disabled', enable: 'enabled',
    delete: 'deleted', set: 'changed', import: 'imported',
    environment: 'environment changed',
};


export function auditPage(main) {
    const sub = el('p', { class: 'sub' });
    const card = el('div', { class: 'card padded' });

    const load = async (limit) => {
        card.setAttribute('aria-busy', 'true');

        try {
            const { items } = await api.get('audit', { limit });
            const more = items.length === limit && limit < SHOWN[1];

            sub.textContent = `The last ${plural(items.length, 'change')}`;
            card.replaceChildren(
                auditTable(items, {}),
                ...more ? [button('Show more',
                                  { onclick: () => load(SHOWN[1]) })] : []);

        } catch (error) {
            card.replaceChildren(errorBox(error, () => load(limit)));
        }

        card.removeAttribute('aria-busy');
    };

    main.replaceChildren(
        el('div', { class: 'page-head' },
           el('div', null, el('h1', null, 'Changes'), sub)), card);
    load(SHOWN[0]);
}


export function auditTable(items, { ofOneKey = false }) {
    if (items.length === 0) {
        return ofOneKey ? el('p', { class: 'fine' }, 'None are recorded.')
                        : emptyBox('No changes yet', 'Every change of a key '
                                   + 'is listed here, with who made it.');
    }

    if (ofOneKey) {
        return el('ul', { class: 'timeline' }, items.map((item) =>
            el('li', null, el('b', null, ACTIONS[item.action] ?? item.action),
               el('p', { class: 'fine' }, moment(Date.parse(item.at)),
                  ` by ${item.by ?? 'somebody'}, ${source(item)}`))));
    }

    return table('Changes', ['When', 'What', 'Key', 'By', 'With', 'Request'],
                 items.map(line));
}


function line(item) {
    return [
        moment(Date.parse(item.at)),
        badge(ACTIONS[item.action] ?? item.action,
              item.action === 'delete' ? 'bad' : ''),
        item.key_fingerprint
        && el('a', { href: `#/keys/${item.key_fingerprint}` },
              item.client_id ?? item.key_fingerprint),
        item.by ?? '—',
        source(item),
        item.request_id && el('code', null, item.request_id),
    ];
}


function source(item) {
    return item.source === 'api' ? 'HTTP API' : item.source;
}
