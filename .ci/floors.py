"The lowest versions that settings.ini allows, as constraints for pip: python .ci/floors.py > floors.txt"
import configparser, re
from pathlib import Path

settings = configparser.ConfigParser(delimiters=['='])
settings.read(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8')
keys = 'requirements', 'lora_requirements', 'serve_requirements', 'tune_requirements'
lines = [line for key in keys for line in settings['DEFAULT'][key].split('\n') if line]
for name, floor in sorted({tuple(re.match(r'([\w-]+)>=([\d.]+)', line).groups()) for line in lines}):
    print(f'{name}=={floor}')
