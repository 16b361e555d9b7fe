/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The admin API.  The token is in the memory of this tab, and in its session
 * storage so that it survives a reload; it is sent in a header only.
 */

const TOKEN = 'rbgv-admin-token';
const TIMEOUT = 20e3;

const base = address('rbgv-api');

/* what takes keys */
export const example = address('rbgv-example');

let token = null;

/* how far the clock of the gateway is ahead, milliseconds */
let ahead = 0;

/* is called when the API no longer takes the token */
let onRefused = () => {};


function address(name) {
    return new URL(document.querySelector(`meta[name="${name}"]`).content,
                   document.baseURI);
}


export class ApiError extends Error {
    constructor(status, { code, message, request_id: id } = {}) {
        super(message ?? `The gateway answered with ${status}.`);
        this.status = status;
        this.code = code ?? null;
        this.requestId = id ?? null;
    }
}


export function onTokenRefused(handler) {
    onRefused = handler;
}


export function hasToken() {
    token ??= sessionStorage.getItem(TOKEN);
    return token !== null;
}


/* throws if the API does not take it; returns what "config" says */

export async function signIn(text) {
    token = text;

    try {
        const config = await request('GET', 'config');

        sessionStorage.setItem(TOKEN, token);
        return config;

    } catch (error) {
        signOut();
        throw error;
    }
}


export function signOut() {
    token = null;
    sessionStorage.removeItem(TOKEN);
}


export function now() {
    return Date.now() + ahead;
}


export const get = (path, query) => request('GET', path, { query });
export const post = (path, body) => request('POST', path, { body });


async function request(method, path, { query, body } = {}) {
    const url = new URL(path, base);
    const sent = token;

    for (const [name, value] of Object.entries(query ?? {})) {
        if (value !== null && value !== undefined) {
            url.searchParams.set(name, value);
        }
    }

    const response = await send(url, {
        method,
        headers: {
            Accept: 'application/json',
            'X-Admin-Token': token,
            ...(body && { 'Content-Type': 'application/json' }),
        },
        body: body && JSON.stringify(body),
        cache: 'no-store',
        credentials: 'same-origin',
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT),
    });

    setClock(response);

    const answer = await response.json().catch(() => null);

    if (response.ok && answer !== null) {
        return answer;
    }

    const error = new ApiError(response.status, answer?.error);

    if (response.status === 401 && token === sent) {
        onRefused(error);
    }

    throw error;
}


async function send(url, options) {
    try {
        return await fetch(url, options);

    } catch (error) {
        throw new ApiError(0, {
            code: 'unreachable',
            message: error.name === 'TimeoutError'
                     ? 'The gateway did not answer in time.'
                     : 'The gateway cannot be reached.',
        });
    }
}


/* "Date" has whole seconds: less than two is no difference */

function setClock(response) {
    const difference = Date.parse(response.headers.get('Date')) - Date.now();

    ahead = Math.abs(difference) > 2000 ? difference : 0;
}
