/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * All keys, as far as they have come: the server gives them page by page.
 */

import * as api from './api.js';
import { Key } from './model.js';

const PAGE = 500;

const keys = new Map();
const listeners = new Set();

const state = {
    loading: false,
    complete: false,
    error: null,
    loadedAt: 0,
};

/* grows with each load: answers to an older one are dropped */
let turn = 0;

let known = null;


export const allKeys = () => [...keys.values()];
export const loadState = () => state;


/* asked for once, and whenever somebody wants it fresh */

export async function config({ fresh = false } = {}) {
    if (known === null || fresh) {
        known = await api.get('config');
    }

    return known;
}


/* calls back on every change, until what it returns is called */

export function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
}


export async function load() {
    const mine = ++turn;
    const seen = new Set();
    let cursor;

    Object.assign(state, { loading: true, error: null });
    changed();

    try {
        do {
            const page = await api.get('keys', { limit: PAGE, cursor });

            if (mine !== turn) {
                return;
            }

            for (const item of page.items) {
                seen.add(item.key_fingerprint);
                keys.set(item.key_fingerprint, new Key(item, api.now()));
            }

            cursor = page.cursor;
            changed();
        } while (cursor);

        for (const id of keys.keys()) {
            if (!seen.has(id)) {
                keys.delete(id);
            }
        }

        Object.assign(state, { complete: true, loadedAt: api.now() });

    } catch (error) {
        if (mine === turn) {
            state.error = error;
        }
    }

    if (mine === turn) {
        state.loading = false;
        changed();
    }
}


export const find = (id) => keys.get(id);


/* one key, with what only its own page shows; returns an error or null */

export async function reload(id) {
    try {
        put(await api.get(`keys/${encodeURIComponent(id)}`));
        return null;

    } catch (error) {
        return error;
    }
}


function put(item) {
    keys.set(item.key_fingerprint, new Key(item, api.now()));
    changed();
}


export function drop(id) {
    keys.delete(id);
    changed();
}


export function clear() {
    turn++;
    keys.clear();
    known = null;
    Object.assign(state, { loading: false, complete: false, error: null,
                           loadedAt: 0 });
}


function changed() {
    listeners.forEach((listener) => listener());
}
