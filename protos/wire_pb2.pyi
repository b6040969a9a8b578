from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_CRITICAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_OK: _ClassVar[Outcome]
    OUTCOME_FAIL: _ClassVar[Outcome]
    OUTCOME_INFO: _ClassVar[Outcome]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]
    DURABILITY_PROCESS: _ClassVar[Durability]
    DURABILITY_DISK: _ClassVar[Durability]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_CRITICAL: Priority
PRIORITY_HIGH: Priority
PRIORITY_NORMAL: Priority
PRIORITY_LOW: Priority
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_OK: Outcome
OUTCOME_FAIL: Outcome
OUTCOME_INFO: Outcome
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MEMORY: Durability
DURABILITY_PROCESS: Durability
DURABILITY_DISK: Durability

class Event(_message.Message):
    __slots__ = ("id", "type", "source", "time_ns", "priority", "correlation_id", "key", "metadata", "payload", "version", "seq", "expires_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    source: str
    time_ns: int
    priority: Priority
    correlation_id: str
    key: str
    metadata: bytes
    payload: bytes
    version: str
    seq: int
    expires_ns: int
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., source: _Optional[str] = ..., time_ns: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., correlation_id: _Optional[str] = ..., key: _Optional[str] = ..., metadata: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., version: _Optional[str] = ..., seq: _Optional[int] = ..., expires_ns: _Optional[int] = ...) -> None: ...

class ClientFrame(_message.Message):
    __slots__ = ("publish", "subscribe", "credit", "settle", "leave", "ping")
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    publish: Publish
    subscribe: Subscribe
    credit: Credit
    settle: Settle
    leave: Leave
    ping: Ping
    def __init__(self, publish: _Optional[_Union[Publish, _Mapping]] = ..., subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., settle: _Optional[_Union[Settle, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class ServerFrame(_message.Message):
    __slots__ = ("published", "subscribed", "deliveries", "left", "pong", "failure", "draining", "welcome")
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    published: Published
    subscribed: Subscribed
    deliveries: Deliveries
    left: Left
    pong: Pong
    failure: Failure
    draining: Draining
    welcome: Welcome
    def __init__(self, published: _Optional[_Union[Published, _Mapping]] = ..., subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., deliveries: _Optional[_Union[Deliveries, _Mapping]] = ..., left: _Optional[_Union[Left, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("server", "durability", "max_frame_bytes", "max_events", "max_publishes", "max_in_flight", "max_subscriptions", "dedupe_window_ms")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_EVENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_PUBLISHES_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    DEDUPE_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    server: str
    durability: Durability
    max_frame_bytes: int
    max_events: int
    max_publishes: int
    max_in_flight: int
    max_subscriptions: int
    dedupe_window_ms: int
    def __init__(self, server: _Optional[str] = ..., durability: _Optional[_Union[Durability, str]] = ..., max_frame_bytes: _Optional[int] = ..., max_events: _Optional[int] = ..., max_publishes: _Optional[int] = ..., max_in_flight: _Optional[int] = ..., max_subscriptions: _Optional[int] = ..., dedupe_window_ms: _Optional[int] = ...) -> None: ...

class Publish(_message.Message):
    __slots__ = ("request", "events", "atomic")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    request: int
    events: _containers.RepeatedCompositeFieldContainer[Outgoing]
    atomic: bool
    def __init__(self, request: _Optional[int] = ..., events: _Optional[_Iterable[_Union[Outgoing, _Mapping]]] = ..., atomic: _Optional[bool] = ...) -> None: ...

class Outgoing(_message.Message):
    __slots__ = ("event", "delay_ms", "ttl_ms")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    event: Event
    delay_ms: int
    ttl_ms: int
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ..., delay_ms: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class Published(_message.Message):
    __slots__ = ("request", "receipts")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    request: int
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, request: _Optional[int] = ..., receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("outcome", "id", "seq", "durability", "duplicate", "error", "message", "retry_after_ms")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    id: str
    seq: int
    durability: Durability
    duplicate: bool
    error: str
    message: str
    retry_after_ms: int
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., id: _Optional[str] = ..., seq: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., duplicate: _Optional[bool] = ..., error: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("sub", "subscriber_id", "pattern", "name", "at_most_once", "earliest", "seq", "in_flight", "lease_ms", "priority_min", "priority_filter", "filters", "block_key", "overflow", "update", "credit", "take_over")
    SUB_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBER_ID_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_ONCE_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_MIN_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FILTER_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_KEY_FIELD_NUMBER: _ClassVar[int]
    OVERFLOW_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    sub: int
    subscriber_id: str
    pattern: str
    name: str
    at_most_once: bool
    earliest: bool
    seq: int
    in_flight: int
    lease_ms: int
    priority_min: Priority
    priority_filter: Priority
    filters: bytes
    block_key: bool
    overflow: str
    update: bool
    credit: int
    take_over: bool
    def __init__(self, sub: _Optional[int] = ..., subscriber_id: _Optional[str] = ..., pattern: _Optional[str] = ..., name: _Optional[str] = ..., at_most_once: _Optional[bool] = ..., earliest: _Optional[bool] = ..., seq: _Optional[int] = ..., in_flight: _Optional[int] = ..., lease_ms: _Optional[int] = ..., priority_min: _Optional[_Union[Priority, str]] = ..., priority_filter: _Optional[_Union[Priority, str]] = ..., filters: _Optional[bytes] = ..., block_key: _Optional[bool] = ..., overflow: _Optional[str] = ..., update: _Optional[bool] = ..., credit: _Optional[int] = ..., take_over: _Optional[bool] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("sub", "subscription_id", "from_seq", "lease_ms")
    SUB_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    sub: int
    subscription_id: str
    from_seq: int
    lease_ms: int
    def __init__(self, sub: _Optional[int] = ..., subscription_id: _Optional[str] = ..., from_seq: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("sub", "more")
    SUB_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    sub: int
    more: int
    def __init__(self, sub: _Optional[int] = ..., more: _Optional[int] = ...) -> None: ...

class Deliveries(_message.Message):
    __slots__ = ("sub", "deliveries")
    SUB_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    sub: int
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, sub: _Optional[int] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("delivery", "event", "ttl_ms")
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    delivery: int
    event: Event
    ttl_ms: int
    def __init__(self, delivery: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class Settle(_message.Message):
    __slots__ = ("sub", "ack", "nak", "term", "in_progress", "expired")
    SUB_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NAK_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    sub: int
    ack: _containers.RepeatedScalarFieldContainer[int]
    nak: _containers.RepeatedCompositeFieldContainer[Nak]
    term: _containers.RepeatedCompositeFieldContainer[Term]
    in_progress: _containers.RepeatedScalarFieldContainer[int]
    expired: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sub: _Optional[int] = ..., ack: _Optional[_Iterable[int]] = ..., nak: _Optional[_Iterable[_Union[Nak, _Mapping]]] = ..., term: _Optional[_Iterable[_Union[Term, _Mapping]]] = ..., in_progress: _Optional[_Iterable[int]] = ..., expired: _Optional[_Iterable[int]] = ...) -> None: ...

class Nak(_message.Message):
    __slots__ = ("delivery", "delay_ms", "error_type", "error", "timed_out")
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    delivery: int
    delay_ms: int
    error_type: str
    error: str
    timed_out: bool
    def __init__(self, delivery: _Optional[int] = ..., delay_ms: _Optional[int] = ..., error_type: _Optional[str] = ..., error: _Optional[str] = ..., timed_out: _Optional[bool] = ...) -> None: ...

class Term(_message.Message):
    __slots__ = ("delivery", "reason")
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    delivery: int
    reason: str
    def __init__(self, delivery: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("sub", "end")
    SUB_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    sub: int
    end: bool
    def __init__(self, sub: _Optional[int] = ..., end: _Optional[bool] = ...) -> None: ...

class Left(_message.Message):
    __slots__ = ("sub",)
    SUB_FIELD_NUMBER: _ClassVar[int]
    sub: int
    def __init__(self, sub: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("number", "stored")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    number: int
    stored: bool
    def __init__(self, number: _Optional[int] = ..., stored: _Optional[bool] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("sub", "request", "error", "message", "fatal")
    SUB_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FATAL_FIELD_NUMBER: _ClassVar[int]
    sub: int
    request: int
    error: str
    message: str
    fatal: bool
    def __init__(self, sub: _Optional[int] = ..., request: _Optional[int] = ..., error: _Optional[str] = ..., message: _Optional[str] = ..., fatal: _Optional[bool] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ("deadline_ms",)
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    deadline_ms: int
    def __init__(self, deadline_ms: _Optional[int] = ...) -> None: ...
