"""Chat templates in the manner of the published ones, with the habits that trip up code that assumes too much.

One Jinja string per family. Three carry `generation` marks; of these, OneVision's leave the end token outside. Some put
all images before the text, some add a system turn, rename the assistant, trim the text, or take only lists of parts.
"""

# All images of a turn come first, wherever they stood; one line each.
_IMAGES_FIRST = "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
_TEXTS = "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"

LLAVA = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}" + _TEXTS + "{{ ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' }}" + _IMAGES_FIRST + _TEXTS + "{{ ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' }}{% generation %}" + _TEXTS + "{{ '</s>' }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

LLAVA_NEXT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<<SYS>>\\n' }}" + _TEXTS + "{{ '\\n<</SYS>>\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' }}" + _IMAGES_FIRST + _TEXTS + "{{ ' [/INST]' }}"
    "{% else %}{% generation %}{{ ' ' }}" + _TEXTS + "{{ '</s>' }}{% endgeneration %}{{ ' ' }}"
    "{% endif %}{% endfor %}"
)

# An assistant's turn opens with a space and a line feed, the generation prompt with the line feed alone.
LLAVA_ONEVISION = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ '\\n' }}" + _TEXTS + "{% endgeneration %}"
    "{% else %}{{ '\\n' }}" + _TEXTS + "{% endif %}{{ '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_CHATML_TURNS = (
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_QWEN_TURNS = _CHATML_TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")

QWEN2_VL = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}" + _QWEN_TURNS
)
QWEN3_VL = "{% for message in messages %}" + _QWEN_TURNS
INTERNVL = "{% for message in messages %}" + _CHATML_TURNS.replace("IMAGE", "<IMG_CONTEXT>\\n")

# One opening token for the whole conversation; a space after the colon unless an image follows.
_UTTERANCES = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}{{ '<end_of_utterance>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SMOLVLM = "<|im_start|>" + _UTTERANCES
IDEFICS3 = "<|begin_of_text|>" + _UTTERANCES

# The system text goes in front of the first user's; turns must alternate; each text is trimmed.
GEMMA3 = (
    "{{ bos_token }}"
    "{% set turns = messages %}{% set prefix = '' %}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set turns = messages[1:] %}"
    "{% if messages[0]['content'] is string %}{% set prefix = messages[0]['content'] + '\\n\\n' %}"
    "{% else %}{% set prefix = messages[0]['content'][0]['text'] + '\\n\\n' %}{% endif %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 is even) %}"
    "{{ raise_exception('the roles user and assistant must take turns') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{{ prefix if loop.first else '' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

# A system turn of its own making where there is none; the generation prompt adds nothing.
MISTRAL3 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '[SYSTEM_PROMPT]You are a careful assistant.[/SYSTEM_PROMPT]' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ '[SYSTEM_PROMPT]' }}"
    "{{ message['content'] if message['content'] is string else message['content'][0]['text'] }}"
    "{{ '[/SYSTEM_PROMPT]' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST]' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}{{ '[IMG]' }}{% endif %}"
    "{% endfor %}{% endif %}{{ '[/INST]' }}"
    "{% else %}"
    "{{ message['content'] if message['content'] is string else message['content'][0]['text'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)

# Texts behind their images; the answer stands between two tokens of its own.
COHERE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' }}" + _TEXTS + "{{ '<|END_RESPONSE|>' }}"
    "{% else %}{{ '<|START_OF_TURN_TOKEN|><|' + message['role'] | upper + '_TOKEN|>' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ 'IMAGE' }}{% endfor %}" + _TEXTS + "{% endif %}"
    "{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
)
AYA_VISION = COHERE.replace("IMAGE", "<image>")
COHERE2_VISION = COHERE.replace("IMAGE", "<|IMG_PATCH|>")

# Roles are special tokens.
_ROLES = (
    "{% for message in messages %}{{ 'OPEN' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ 'END' }}{% endfor %}"
)


def _roles(start: str, opening: str, image: str, end: str) -> str:
    """`opening` is Jinja's own between quotes: `' + message['role'] + '` stands where the role goes."""
    return start + _ROLES.replace("OPEN", opening).replace("IMAGE", image).replace("END", end)


_ROLE = "' + message['role'] + '"
GLM4V = _roles("[gMASK]<sop>", f"<|{_ROLE}|>\\n", "<|begin_of_image|><|image|><|end_of_image|>", "<|endoftext|>")
ARIA = _roles("", f"<|im_start|>{_ROLE}\\n", "<fim_prefix><|img|><fim_suffix>", "<|im_end|>\\n")
LLAMA4 = _roles("<|begin_of_text|>", f"<|header_start|>{_ROLE}<|header_end|>\\n\\n", "<|image|>", "<|eot|>")
GEMMA4 = _roles("{{ bos_token }}", f"<|turn>{_ROLE}\\n", "<|image|>", "<turn|>\\n")
GOT_OCR2 = _roles("", f"<|im_start|>{_ROLE}\\n", "<img><imgpad></img>", "<|im_end|>")
OVIS2 = _roles("", f"<|im_start|>{_ROLE}\\n", "<image>\\n", "<|im_end|>\\n")
GRANITE4_VISION = _roles("", f"<|start_of_role|>{_ROLE}<|end_of_role|>", "<image>\\n", "<|end_of_text|>\\n")
# Nothing special ends a turn.
VIPLLAVA = _roles("", "###' + message['role'] | capitalize + ':", "<image>\\n", "")
DEEPSEEK_VL = _roles("", "' + message['role'] | capitalize + ': ", "<image_placeholder>", "<|end_of_sentence|>")
JANUS = _roles("", "' + '<|' + message['role'] | capitalize + '|>: ", "<image_placeholder>\\n", "<|end_of_sentence|>")
# The processor types the opening token itself.
EMU3 = _roles("", "' + message['role'] | upper + ': ", "<image>", "<|extra_204|>")

# No space after the colon where an image follows; the end token stands in the answer's line.
IDEFICS2 = _UTTERANCES
