"""What the web routes do, for views of any framework, such as Django's and Flask's: no server, no request objects."""

from chunkspool.admission.asked import AskedGeneration
from chunkspool.admission.defaults import SafeAdmission
from chunkspool.dialects.usechat_messages import UseChatRequest
from chunkspool.errors import Refused
from chunkspool.problems import MEDIA_TYPE, Problem, problem_of
from chunkspool.views.event_stream import EventStream
from chunkspool.views.following import follow
from chunkspool.views.usechat import UseChat

__all__ = [
    "MEDIA_TYPE",
    "AskedGeneration",
    "EventStream",
    "Problem",
    "Refused",
    "SafeAdmission",
    "UseChat",
    "UseChatRequest",
    "follow",
    "problem_of",
]
