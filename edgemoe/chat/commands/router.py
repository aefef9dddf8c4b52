"""Commands that need a router."""

from __future__ import annotations

from edgemoe.chat.chat import Chat
from edgemoe.chat.commands.registry import command
from edgemoe.chat.routed import RoutedSession
from edgemoe.errors import EdgeMoEError


@command("/route")
def _route(chat: Chat, _: str) -> None:
    """with --route: who answered last, and why"""
    chat.screen.rows(_routed(chat).explanation())


@command("/good")
def _good(chat: Chat, _: str) -> None:
    """with --route: the last answer was good; the router learns from it"""
    chat.screen.say(_routed(chat).feedback(good=True))


@command("/bad")
def _bad(chat: Chat, _: str) -> None:
    """with --route: the last answer was bad"""
    chat.screen.say(_routed(chat).feedback(good=False))


def _routed(chat: Chat) -> RoutedSession:
    if not isinstance(chat.session, RoutedSession):
        raise EdgeMoEError("this chat has one model and no router: edgemoe chat --route has")
    return chat.session
